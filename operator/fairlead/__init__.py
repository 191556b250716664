"""Fairlead keeps business systems in agreement, as declared in Git."""

__version__ = "0.1.0"
