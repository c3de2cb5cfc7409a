"""A model over a split, and what it costs."""
