"""Turns Python's garbage collection off while ComfyUI starts; ``__init__.py`` turns it on again.

ComfyUI runs this before it imports torch. The imports make many objects and hardly any garbage: to
look for it costs a fifth of the processor time in which ComfyUI starts.
"""

import gc

gc.disable()
