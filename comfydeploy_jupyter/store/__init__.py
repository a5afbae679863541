"""The records that are kept over restarts, in SQLite."""
