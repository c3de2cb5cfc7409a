"""Splits: which is which, how one is cut off, and images that stand in two."""
