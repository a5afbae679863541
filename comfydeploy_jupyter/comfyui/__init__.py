"""One ComfyUI: the only package that speaks its protocol."""
