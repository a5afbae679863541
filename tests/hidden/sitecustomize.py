"""Lets a ComfyUI start in two thirds of the processor time, which the tests do dozens of times.

What it imports when it starts, and needs only for other prompts than those of the tests, is
imported when it is used: parts of SciPy, and torch's compiler, of which torchvision imports one
function. Python executes this module when it starts, before the program.
"""

import sys

if any(argument.endswith("main.py") for argument in sys.orig_argv):
    import importlib.util
    import types

    class Later:
        """Finds modules whose code is executed when they are used."""

        names = ("scipy.integrate", "scipy.stats")

        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if name not in cls.names:
                return None
            cls.names = tuple(other for other in cls.names if other != name)
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.loader is not None:
                spec.loader = importlib.util.LazyLoader(spec.loader)
            return spec

    class Compiler(types.ModuleType):
        """``torch._dynamo.utils``, until something is used of it."""

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            sys.modules.pop(self.__name__, None)

            def load():
                return getattr(importlib.import_module(self.__name__), name)

            # the function that torchvision imports
            return (lambda device: load()(device)) if name == "is_compile_supported" else load()

    sys.meta_path.insert(0, Later)
    sys.modules["torch._dynamo.utils"] = Compiler("torch._dynamo.utils")
