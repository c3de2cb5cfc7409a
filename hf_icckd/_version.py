"""The version, in a file of its own that anything may import."""

__version__ = "0.2.0"
