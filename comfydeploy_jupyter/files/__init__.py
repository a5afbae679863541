"""Files: uploads in, hashes, listings, statistics. All disk access happens in threads."""
