"""Print version and packages of an interpreter as JSON. The interpreter itself runs this file.

It uses only the standard library, and nothing newer than Python 3.8.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import sys
import sysconfig
from typing import Any, Optional


def torch() -> dict[str, str | None] | None:
    """Return the GPU support of torch, from its files: to import it would take seconds."""
    try:
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            return None
        with open(os.path.join(os.path.dirname(spec.origin), "version.py")) as file:
            text = file.read()
    except (ImportError, OSError, ValueError):
        return None
    found: dict[str, str | None] = {}
    for name in ("cuda", "hip", "xpu"):
        match = re.search(r"^%s[^=\n]*=\s*['\"]([^'\"]+)" % name, text, re.MULTILINE)
        found[name] = match.group(1) if match else None
    return found


def packages() -> list[dict[str, Any]]:
    """Return the packages that can be imported; the first one of a name is used, as by imports."""
    found: dict[str, dict[str, Any]] = {}
    for one in importlib.metadata.distributions():
        try:
            name, version = one.metadata["Name"], one.version
            direct = one.read_text("direct_url.json")
            location = os.path.abspath(str(one.locate_file("")))
            requires = [str(line) for line in one.requires or ()]
            names = modules(one)
        except Exception:  # broken metadata of one package must not hide the others
            continue
        if not name or not version:
            continue
        key = re.sub(r"[-_.]+", "-", name).lower()
        found.setdefault(
            key,
            {
                "name": name,
                "version": version,
                "direct_url": direct,
                "location": location,
                "requires": requires,
                "modules": names,
                "changed": changed(one),
            },
        )
    return [found[key] for key in sorted(found)]


def modules(one: importlib.metadata.Distribution) -> list[str]:
    """Return the names by which the modules of a package are imported."""
    listed = one.read_text("top_level.txt")
    if listed is not None:
        return listed.split()
    paths = (line.partition(",")[0] for line in (one.read_text("RECORD") or "").splitlines())
    first = {path.partition("/")[0].partition(".py")[0] for path in paths}
    return sorted(name for name in first if name.isidentifier())


def changed(one: importlib.metadata.Distribution) -> Optional[float]:
    """Return when a package was installed; None if this is not known."""
    try:
        return os.stat(getattr(one, "_path")).st_ctime  # noqa: B009 - of the usual class
    except (AttributeError, OSError, TypeError):
        return None


if hasattr(os, "nice"):
    os.nice(10)
print(
    json.dumps(
        {
            "version": ".".join(str(part) for part in sys.version_info[:3]),
            "platform": sysconfig.get_platform(),
            "torch": torch(),
            "packages": packages(),
        }
    )
)
