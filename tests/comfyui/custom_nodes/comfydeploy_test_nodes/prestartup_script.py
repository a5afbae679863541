"""Prepares a faster start of ComfyUI; ``__init__.py`` ends these preparations.

ComfyUI runs this before it imports torch. Python's garbage collection is turned off: the imports
make many objects and hardly any garbage, and to look for it costs a fifth of the processor time in
which ComfyUI starts. Another fifth is the import of torch's compiler, which torchvision imports for
one function; the tests compile nothing.
"""

import gc
import sys
import types

gc.disable()

compiler = types.ModuleType("torch._dynamo.utils")
compiler.is_compile_supported = lambda device_type: False
sys.modules[compiler.__name__] = compiler
