"""Local page that shows a teacher and its student a picture."""
