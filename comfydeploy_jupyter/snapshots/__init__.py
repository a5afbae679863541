"""Snapshots of environments: read or convert them, write them as Docker build contexts."""
