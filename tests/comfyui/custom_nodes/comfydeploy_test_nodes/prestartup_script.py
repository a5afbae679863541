"""Prepares a faster start of ComfyUI; ``__init__.py`` ends these preparations.

ComfyUI runs this before it imports torch. Python's garbage collection is turned off: the imports
make many objects and hardly any garbage, and to look for it costs a fifth of the processor time in
which ComfyUI starts. Half of the rest is the import of modules of which hardly a test uses more
than the names. Each of them is imported when something of it is used.
"""

import gc
import importlib
import importlib.util
import sys
import types

gc.disable()


class Unused(types.ModuleType):
    """Stands for a module until something of it is used."""

    def __init__(self, name):
        super().__init__(name)
        if "." not in name and (spec := importlib.util.find_spec(name)) is not None:
            self.__spec__ = spec
            self.__path__ = spec.submodule_search_locations

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Unresolved(self.__name__, name)


class Compiler(Unused):
    """Stands for torch's compiler, of which torchvision calls one function when it is imported."""

    def is_compile_supported(self, device_type):
        return False

    def __getattr__(self, name):  # ComfyUI 0.33 needs more of it
        return super().__getattr__(name).resolve()


class Unresolved:
    """Stands for a function or a class of an unused module."""

    def __init__(self, module, name):
        self.place = module, name

    def resolve(self):
        module, name = self.place
        return getattr(import_really(module), name)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.resolve(), name)

    def __call__(self, *args, **kwargs):
        return self.resolve()(*args, **kwargs)

    def __instancecheck__(self, instance):
        return isinstance(instance, self.resolve())

    def __mro_entries__(self, bases):
        return (self.resolve(),)


def import_really(name):
    """Import a module; no other module of its package is represented any more."""
    package = name.partition(".")[0]
    for other, module in [*sys.modules.items()]:
        if isinstance(module, Unused) and other.partition(".")[0] == package:
            sys.modules.pop(other, None)  # another thread may do the same
    return importlib.import_module(name)


sys.modules["torch._dynamo.utils"] = Compiler("torch._dynamo.utils")
for unused in ("scipy.integrate", "scipy.ndimage", "scipy.stats", "transformers"):
    sys.modules[unused] = Unused(unused)
