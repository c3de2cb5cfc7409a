"""Labels: which column holds them, and what the classes are called."""
