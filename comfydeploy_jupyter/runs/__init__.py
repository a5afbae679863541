"""Runs: queue prompts, follow them until they have ended, and emit their events."""
