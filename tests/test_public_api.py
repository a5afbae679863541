"""The public names of the package and their signatures are those in `public_api.json`.

After a wanted change: ``STORE_PUBLIC_API=1 pytest tests/test_public_api.py``, then read the diff.
"""

import ast
import inspect
import json
import os
import sys
import textwrap
from pathlib import Path

import pytest

import comfydeploy_jupyter
from comfydeploy_jupyter import client, magics, mcp_tools, widgets

STORED = Path(__file__).with_name("public_api.json")
RETURNED = ("Deletion", "FreedMemory", "Kept", "SignInLink", "Sweeps", "UploadedFile")
"""Classes of the client that are not exported, but whose objects users get."""
MADE_BY_USERS = {"Comfy", "Event", *widgets.__all__}
"""Classes whose constructors are public; all other objects are made by methods."""


def attributes_set(kind):
    """Return the public attributes that the methods of a class set."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except OSError:  # made by NamedTuple or dataclass
        return set()
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and not node.attr.startswith("_")
    }


def is_written(member):
    """Return whether a special method is in our code, and does what not every object can do."""
    return (
        inspect.isfunction(member)
        and member.__code__.co_filename.endswith(".py")
        and member.__name__ not in vars(object)
    )


def members(kind):
    found = {}
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith("comfydeploy_jupyter."):
            continue
        found |= dict.fromkeys(attributes_set(base), "attribute")
        found |= dict.fromkeys(
            (name for name in vars(base).get("__annotations__", {}) if name[0] != "_"), "attribute"
        )
        for name, member in vars(base).items():
            if name.startswith("_") and not (name.startswith("__") and is_written(member)):
                continue
            if isinstance(member, property):
                found[name] = "property" if member.fset is None else "property that can be set"
            elif isinstance(member, (classmethod, staticmethod)) or inspect.isfunction(member):
                found[name] = str(inspect.signature(getattr(kind, name)))
            elif name in found or not callable(member):
                found[name] = "attribute"
    if kind.__name__ in MADE_BY_USERS:
        found["__init__"] = str(inspect.signature(kind))
    return found


def described(thing):
    if inspect.isclass(thing):
        return dict(sorted(members(thing).items()))
    return str(inspect.signature(thing)) if callable(thing) else str(type(thing).__name__)


def class_named(name):
    modules = [m for n, m in sys.modules.items() if n.startswith("comfydeploy_jupyter.client")]
    kinds = (vars(module).get(name) for module in modules)
    return next(kind for kind in kinds if inspect.isclass(kind))


def public_api():
    names = {
        **{name: getattr(comfydeploy_jupyter, name) for name in comfydeploy_jupyter.__all__},
        **{f"widgets.{n}": getattr(widgets, n) for n in ("Panel", "default_panel")},
        **{f"client.{name}": getattr(client, name) for name in client.__all__},
        **{f"returned: {name}": class_named(name) for name in RETURNED},
    }
    found = {name: described(thing) for name, thing in sorted(names.items())}
    for name in (*mcp_tools.READING, *mcp_tools.WRITING):
        found[f"tool: {name}"] = list(inspect.signature(getattr(mcp_tools, name)).parameters)
    return {**found, "%comfy": list(magics.COMMANDS)}


@pytest.mark.slow
def test_public_names_and_their_signatures_stay():
    found = public_api()
    if os.environ.get("STORE_PUBLIC_API"):
        STORED.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(STORED.read_text())
