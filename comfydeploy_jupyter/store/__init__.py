"""The records that outlive a restart, in SQLite."""
