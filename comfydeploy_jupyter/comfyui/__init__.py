"""One ComfyUI: the only room that speaks its protocol."""
