"""Functions for all code that uses the network: sessions, headers, bodies, backoff, tasks."""
