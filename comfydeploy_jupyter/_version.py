"""The version; no other file contains it."""

__version__ = "0.1.0"
