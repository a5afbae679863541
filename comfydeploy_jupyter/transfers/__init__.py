"""Uploads, downloads and callbacks, kept in the store until they are complete."""
