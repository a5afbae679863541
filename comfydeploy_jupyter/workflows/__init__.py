"""Workflows: kept in versions, converted, judged."""
