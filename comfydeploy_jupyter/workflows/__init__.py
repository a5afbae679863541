"""Workflows: stored in versions, converted, validated."""
