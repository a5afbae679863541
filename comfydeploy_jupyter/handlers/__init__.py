"""The whole API on one page."""
