"""The Comfy API v2: runs as jobs, and ComfyUI's files as assets."""
