"""Local page that compares a teacher and its student on one picture."""
