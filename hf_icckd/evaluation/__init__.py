"""Measure a model: metrics of a split, and cost."""
