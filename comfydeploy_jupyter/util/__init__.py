"""What all packages share: processes, threads, the network, secrets, times."""
