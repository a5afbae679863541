"""Prepares a faster start of ComfyUI; ``__init__.py`` ends these preparations.

ComfyUI runs this before it imports torch. Python's garbage collection is turned off: the imports
make many objects and hardly any garbage, and to look for it costs a fifth of the processor time in
which ComfyUI starts. Another fifth is the import of torch's compiler, which torchvision imports for
one function. It is imported if anything else of it is used, as by ComfyUI 0.33.
"""

import gc
import importlib
import sys
import types

gc.disable()


class Compiler(types.ModuleType):
    """Stands for torch's compiler until more than one function of it is used."""

    def is_compile_supported(self, device_type):
        return False

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


sys.modules["torch._dynamo.utils"] = Compiler("torch._dynamo.utils")
