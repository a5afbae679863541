"""Access to a ComfyUI: the only package that uses ComfyUI's protocol."""
