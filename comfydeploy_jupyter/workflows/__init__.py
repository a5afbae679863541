"""Workflows: store them in versions, convert them, validate them."""
