"""Modules that are loaded later than they are imported.

Jupyter imports every extension while its user waits for it to start. pydantic, aiohttp and the
like take several times as long to load as the handlers themselves, so the modules that need them
are loaded in a thread once Jupyter runs. No request is served before that is done.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_lazy: list[ModuleType] = []


def lazy_module(name: str) -> ModuleType:
    """Return a module of this package that is loaded once something in it is asked for.

    Parameters
    ----------
    name : str
        Its name below the package, e.g. ``"schemas"``.
    """
    name = f"{__package__}.{name}"
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
