"""Uploads, downloads and callbacks, stored until they are complete."""
