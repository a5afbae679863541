"""The Python packages of ComfyUI's interpreter, as requirement lines that reproduce them."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import ComfyUIUnavailableError
from ..util.child import plain_environment
from ..util.secrets import clean_url
from .repositories import read_checkout
from .snapshot import Package, Python

PYTORCH_INDEX = "https://download.pytorch.org/whl"
LOCAL = "./packages"  # folder in a build context for packages that are available nowhere else
_INSPECTOR = Path(__file__).with_name("inspect_python.py")
_TIMEOUT = 60.0  # seconds for an interpreter to list its packages
_NOT_PINNED = frozenset({"pip"})  # the image has its own version
_BUILDS = re.compile(r"cpu|xpu|cu\d+|rocm[\d.]+")  # local versions that PyTorch's index has
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")


@dataclass
class PackageReport:
    """Version and packages of an interpreter."""

    python: Python
    sources: dict[str, Path] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def read_packages(python: Path) -> PackageReport:
    """Run an interpreter that lists its packages."""
    facts = _ask(python)
    report = PackageReport(Python(version=facts["version"], platform=facts["platform"]))
    indexes: set[str] = set()
    system: list[str] = []
    for package in facts["packages"]:
        name, version = package["name"], package["version"]
        if name.lower() in _NOT_PINNED:
            continue
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            report.warnings.append(f"{name!r} {version!r} is not a package that pip can install")
        elif re.match(r"/usr/lib/python3[^/]*/dist-packages", package["location"]):
            system.append(name)
        else:
            line = _requirement(report, indexes, package)
            report.python.packages.append(Package(name=name, version=version, requirement=line))
    if system:
        report.warnings.append(f"the system's own packages are left out: {', '.join(system)}")
    if report.gone:
        names = ", ".join(report.gone)
        report.warnings.append(
            f"their versions are pinned, because their files no longer exist: {names}"
        )
    report.python.indexes = sorted(indexes | _torch_index(facts))
    return report


def _ask(python: Path) -> dict[str, Any]:
    # PYTHONPATH contains packages of Jupyter or folders of this machine, not of the interpreter.
    env = {**plain_environment(), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [str(python), str(_INSPECTOR)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            env=env,
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ComfyUIUnavailableError(
            f"ComfyUI's interpreter {python} does not list its packages",
            extra={"hint": "Set comfyui_python to the Python that runs ComfyUI."},
        )
    return found


def _torch_index(facts: dict[str, Any]) -> set[str]:
    """Return the index of a torch without GPU support whose version does not show this.

    On Linux, the torch in pip's default index is built for CUDA.
    """
    torch = next((p for p in facts["packages"] if p["name"].lower() == "torch"), None)
    built_for = facts["torch"]
    if torch is None or built_for is None or "+" in torch["version"]:
        return set()
    is_plain = not any(built_for.values()) and facts["platform"] == "linux-x86_64"
    return {f"{PYTORCH_INDEX}/cpu"} if is_plain else set()


def _requirement(report: PackageReport, indexes: set[str], package: dict[str, Any]) -> str:
    """Return the requirement line; add indexes, local sources and warnings to the report."""
    name, version = package["name"], package["version"]
    direct = _direct_url(package)
    if direct is not None:
        line = _of_direct_url(report, name, direct)
        if line is not None:
            return line
    public, _, build = version.partition("+")
    if not build:
        return f"{name}=={version}"
    if _BUILDS.fullmatch(build):
        indexes.add(f"{PYTORCH_INDEX}/{build}")
        return f"{name}=={version}"
    report.warnings.append(f"{name} {version} is a build of unknown origin; {public} is pinned")
    return f"{name}=={public}"


def _direct_url(package: dict[str, Any]) -> dict[str, Any] | None:
    """Return the address that a package was installed from, if that was no index (PEP 610)."""
    try:
        found = json.loads(package["direct_url"] or "null")
    except ValueError:
        found = None
    if isinstance(found, dict) and isinstance(found.get("url"), str):
        return found
    location = Path(package["location"])
    if location.name in ("site-packages", "dist-packages"):
        return None
    if any((location / name).is_file() for name in ("setup.py", "pyproject.toml")):
        return {"url": location.as_uri(), "dir_info": {"editable": True}}
    return None


def _of_direct_url(report: PackageReport, name: str, direct: dict[str, Any]) -> str | None:
    """Return the requirement line of a package from a repository, an archive or a folder."""
    url = direct["url"]
    subdirectory = direct.get("subdirectory")
    tail = f"#subdirectory={subdirectory}" if subdirectory else ""
    vcs = direct.get("vcs_info")
    if isinstance(vcs, dict) and vcs.get("vcs") == "git" and not url.startswith("file:"):
        return f"{name} @ git+{clean_url(url)}@{vcs.get('commit_id')}{tail}"
    if url.startswith(("http://", "https://")):
        archive = direct.get("archive_info")
        hashes = archive.get("hashes") if isinstance(archive, dict) else None
        sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
        return f"{name} @ {clean_url(url)}{f'#sha256={sha256}' if sha256 else tail}"
    if not url.startswith("file:"):
        report.warnings.append(f"{name} comes from {clean_url(url)}; only its version is pinned")
        return None
    path = Path(unquote(urlsplit(url).path))
    checkout = read_checkout(path)
    if checkout is not None and checkout.repository and checkout.commit:
        if checkout.modified:
            report.warnings.append(f"{name}: changes in {path.name} that are not committed")
        return f"{name} @ git+{checkout.repository}@{checkout.commit}{tail}"
    if path.exists():
        line = f"{LOCAL}/{path.name}" if path.is_file() else f"{LOCAL}/{name}"
        report.sources[line] = path
        return line
    report.gone.append(name)
    return None
