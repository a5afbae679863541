"""The records that must survive restarts, stored with SQLite."""
