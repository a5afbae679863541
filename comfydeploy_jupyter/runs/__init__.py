"""Runs: queueing a prompt, following it to its true end, and telling everybody who listens."""
