"""Files: uploads, hashes, listings, information on disks. Threads do all disk access."""
