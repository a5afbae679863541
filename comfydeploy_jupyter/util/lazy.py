"""Modules that are imported now, but loaded later in a thread.

Jupyter imports every extension while its user waits for its start. Loading pydantic, aiohttp and
others takes several times as long as loading the handlers themselves. So the modules that need them
are loaded in a thread after Jupyter has started. Requests are processed only after that.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_lazy: list[ModuleType] = []


def lazy_module(name: str) -> ModuleType:
    """Return a module of this package that is loaded when one of its attributes is first used.

    Parameters
    ----------
    name : str
        Its name within the package, e.g. ``"schemas"``.
    """
    name = f"{__package__.partition('.')[0]}.{name}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    _lazy.append(module)
    return module


def load_all() -> None:
    """Load the lazy modules now."""
    for module in _lazy:
        module.__doc__  # noqa: B018 - asking for anything loads it
