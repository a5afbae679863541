"""The environment of a local ComfyUI, read from its files. Most functions block: use threads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..comfyui.find import git_commit, git_folders, installed_version, read_text
from ..comfyui.kept import normal_name
from ..errors import ComfyUIUnavailableError, ConflictError, ForbiddenPathError, NotFoundError
from ..files.models import ModelListing
from ..graphs.models import model_links
from ..util import worker
from ..util.child import plain_environment
from ..util.secrets import clean_arguments, clean_url
from ..util.times import utc_now
from .snapshot import (
    COMFYUI_REPOSITORY,
    PYTORCH_INDEX,
    TOKEN,
    ComfyUI,
    CustomNode,
    ModelFile,
    Package,
    Python,
    Snapshot,
    is_address,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ..comfyui.folders import Folders
    from ..files.hashes import Hasher
    from ..transfers.queue import Transfers
    from ..workflows.store import LocalWorkflows

LOCAL = "./packages"  # folder in a build context for packages that are available nowhere else
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


@dataclass
class Environment:
    """A snapshot, and the sources of its parts that are only on this machine."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    node_sources: dict[str, Path] = field(default_factory=dict)  # by name of the custom nodes
    package_sources: dict[str, Path] = field(default_factory=dict)  # by requirement line
    warnings: list[str] = field(default_factory=list)  # what was left out, and the reasons
    here: bool = True  # whether it was read from the files of this computer
    started: float | None = None  # when the process of its ComfyUI began
    # What `read_versions` finds out, too:
    versions: dict[str, str] = field(default_factory=dict)  # of all Python packages, by name
    # The Python packages that each node pack needs, and, as "", ComfyUI; None if it is not known.
    needs: dict[str, list[str]] | None = None


@dataclass(frozen=True)
class Place:
    """Where a ComfyUI of this computer is, and how its process was started."""

    path: Path
    python: Path | None
    launch_args: list[str]
    folders: Folders
    started: float | None  # when its process began, as far as that is known


def read_environment(place: Place, python: Path, models: list[ModelFile]) -> Environment:
    found = _read_code(place)
    found.snapshot.models = models
    read_packages(python, found)
    return found


def read_versions(place: Place) -> Environment:
    """Read the versions of ComfyUI, its node packs and the Python packages that they need.

    It is a warning if something was changed since its process began, because that may execute what
    was there before.
    """
    found = _read_code(place)
    found.started = place.started
    packages = []
    if place.python is not None:
        inner = Environment()
        try:
            packages = read_packages(place.python, inner)
        except ComfyUIUnavailableError as error:
            found.warnings.append(error.message)
        found.snapshot.python = inner.snapshot.python
    _read_needs(place.path, packages, found)
    return found


def _read_code(place: Place) -> Environment:
    found = Environment(Snapshot(created_at=utc_now()))
    found.snapshot.comfyui = _read_comfyui(place.path, place.launch_args, found.warnings)
    read_custom_nodes(place.folders.model_folder("custom_nodes").paths, found)
    return found


def _read_comfyui(path: Path, launch_args: Sequence[str], warnings: list[str]) -> ComfyUI:
    version, commit = installed_version(path)
    checkout = read_checkout(path)
    if checkout is not None and checkout.modified:
        warnings.append("ComfyUI has changes that are not committed; they are not in the snapshot")
    if commit is None and version is None:
        warnings.append("neither the version nor the commit of this ComfyUI is known")
    return ComfyUI(
        version=version if version and TOKEN.fullmatch(version) else None,
        commit=commit if commit and _COMMIT.fullmatch(commit) else None,
        repository=(checkout.repository if checkout else None) or COMFYUI_REPOSITORY,
        modified=checkout.modified if checkout else False,
        launch_args=clean_arguments(launch_args),
    )


# -- custom nodes -----------------------------------------------------------------------------

_SHIPPED = frozenset({"websocket_image_save.py"})  # part of ComfyUI
_OFF = ".disabled"
_PROJECT = re.compile(
    r"^[^\S\n]*\[project\][^\S\n]*$(.*?)(?=^[^\S\n]*\[|\Z)", re.MULTILINE | re.DOTALL
)
_TEXT_ENTRY = re.compile(
    r"^[^\S\n]*(name|version)[^\S\n]*=[^\S\n]*[\"']([^\"'\n]+)[\"']", re.MULTILINE
)


def read_custom_nodes(folders: Iterable[Path], found: Environment) -> None:
    """Read all packs in the folders of custom nodes.

    A pack disabled by ComfyUI-Manager is named ``<name>.disabled``, or is in ``.disabled``.
    """
    nodes = {}
    for path, disabled in _packs(folders):
        node = _describe(path, found.warnings, disabled=disabled)
        if node.name in nodes:
            found.warnings.append(f"{node.name} exists twice; {path} is left out")
        else:
            nodes[node.name] = node
            found.node_sources[node.name] = path
    found.snapshot.custom_nodes = sorted(nodes.values(), key=lambda node: node.name.lower())


def _packs(folders: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield each pack and whether it is disabled; the enabled packs come first."""
    off = []
    for folder in folders:
        for path in _entries(folder):
            if path.name.endswith(_OFF):
                off.append(path)
            else:
                yield path, False
        off += _entries(folder / _OFF)
    yield from ((path, True) for path in off)


def _entries(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - only the names are used, not paths
    except OSError:
        return []
    paths = [folder / name for name in names if name.isprintable() and name not in _SHIPPED]
    return [
        path
        for path in paths
        if not path.name.startswith(".")
        if (path.is_dir() and path.name != "__pycache__")
        or (path.is_file() and path.name.removesuffix(_OFF).endswith(".py"))
    ]


def _describe(path: Path, warnings: list[str], *, disabled: bool) -> CustomNode:
    name = path.name.removesuffix(_OFF)
    name = name.partition("@")[0] or name if disabled else name
    node = CustomNode(name=name, kind="files", disabled=disabled)
    checkout = read_checkout(path)
    if checkout is not None and checkout.repository and _is_commit(checkout.commit):
        if checkout.modified:
            warnings.append(f"{name} has changes that are not committed; only its commit is used")
        known = read_text(path / ".git" / ".cnr-id").strip()  # of ComfyUI-Manager
        registered_as = {"id": known} if TOKEN.fullmatch(known) else {}
        return node.model_copy(update={"kind": "git", **asdict(checkout), **registered_as})
    if checkout is not None:
        warnings.append(f"{name} has no repository that others can reach; its files are copied")
    registered = _registered(path)
    return node.model_copy(update={"kind": "registry", **registered}) if registered else node


def _is_commit(text: str | None) -> bool:
    """Return whether a text is the id of a commit: a pack may have anything in its place."""
    return text is not None and _COMMIT.fullmatch(text) is not None


def _registered(path: Path) -> dict[str, str]:
    """Return id and version of a pack that was installed from the Comfy registry; else nothing.

    The installer writes a list of its files, ``.tracking``, beside the ``pyproject.toml`` that
    contains id and version.
    """
    section = _PROJECT.search(read_text(path / "pyproject.toml"))
    if section is None or not (path / ".tracking").is_file():
        return {}
    found = dict(reversed(_TEXT_ENTRY.findall(section[1])))  # the first of two counts
    node_id, version = found.get("name", "").strip().lower(), found.get("version", "").strip()
    usable = TOKEN.fullmatch(node_id) and TOKEN.fullmatch(version)
    return {"id": node_id, "version": version} if usable else {}


# -- Python packages --------------------------------------------------------------------------

_INSPECTOR = Path(__file__).with_name("inspect_python.py")
_PACKAGES_TIMEOUT = 60.0  # seconds for an interpreter to list its packages
_NOT_PINNED = frozenset({"pip"})  # the image has its own version
_BUILDS = re.compile(r"cpu|xpu|cu\d+|rocm[\d.]+")  # local versions that PyTorch's index has
_PACKAGE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_PACKAGE_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")


def read_packages(python: Path, found: Environment) -> list[dict[str, Any]]:
    """Add the packages of an interpreter; return what it says of each."""
    facts = _ask(python)
    listed = found.snapshot.python = Python(version=facts["version"], platform=facts["platform"])
    indexes = _torch_index(facts)
    system: list[str] = []
    gone: list[str] = []  # installed from files that do not exist now
    for package in facts["packages"]:
        name, version = package["name"], package["version"]
        if name.lower() in _NOT_PINNED:
            continue
        if not _PACKAGE_NAME.fullmatch(name) or not _PACKAGE_VERSION.fullmatch(version):
            found.warnings.append(f"{name!r} {version!r} is not a package that pip can install")
        elif re.match(r"/usr/lib/python3[^/]*/dist-packages", package["location"]):
            system.append(name)
        else:
            line = _requirement(found, indexes, gone, package)
            listed.packages.append(Package(name=name, version=version, requirement=line))
    if system:
        found.warnings.append(f"the system's own packages are left out: {', '.join(system)}")
    if gone:
        found.warnings.append(
            f"their versions are pinned, because their files no longer exist: {', '.join(gone)}"
        )
    listed.indexes = sorted(indexes)
    packages: list[dict[str, Any]] = facts["packages"]
    return packages


def _ask(python: Path) -> dict[str, Any]:
    # PYTHONPATH contains packages of Jupyter or folders of this machine, not of the interpreter.
    env = {**plain_environment(), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [str(python), str(_INSPECTOR)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PACKAGES_TIMEOUT,
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


def _requirement(
    found: Environment, indexes: set[str], gone: list[str], package: dict[str, Any]
) -> str:
    """Return the requirement line; add indexes, local sources and warnings."""
    name, version = package["name"], package["version"]
    direct = _direct_url(package)
    line = None if direct is None else _of_direct_url(found, gone, name, direct)
    if line is not None:
        return line
    public, _, build = version.partition("+")
    if not build:
        return f"{name}=={version}"
    if _BUILDS.fullmatch(build):
        indexes.add(f"{PYTORCH_INDEX}/{build}")
        return f"{name}=={version}"
    found.warnings.append(f"{name} {version} is a build of unknown origin; {public} is pinned")
    return f"{name}=={public}"


def _direct_url(package: dict[str, Any]) -> dict[str, Any] | None:
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


def _of_direct_url(
    found: Environment, gone: list[str], name: str, direct: dict[str, Any]
) -> str | None:
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
        found.warnings.append(f"{name} comes from {clean_url(url)}; only its version is pinned")
        return None
    path = Path(unquote(urlsplit(url).path))
    checkout = read_checkout(path)
    if checkout is not None and checkout.repository and _is_commit(checkout.commit):
        if checkout.modified:
            found.warnings.append(f"{name}: changes in {path.name} that are not committed")
        return f"{name} @ git+{checkout.repository}@{checkout.commit}{tail}"
    if path.exists():
        line = f"{LOCAL}/{path.name}" if path.is_file() else f"{LOCAL}/{name}"
        found.package_sources[line] = path
        return line
    gone.append(name)
    return None


# -- which Python packages ComfyUI and its packs need -----------------------------------------

_BESIDE_CODE = frozenset(
    {"custom_nodes", "models", "input", "output", "temp", "user", "tests", "tests-unit", "web"}
)  # in a ComfyUI
_ENVIRONMENTS = frozenset({"venv", "env", "site-packages", "node_modules", "__pycache__"})
_MAX_CODE = 5000  # files of ComfyUI or of a pack
_MAX_SOURCE = 1024 * 1024  # bytes of a file
_IMPORTED = re.compile(r"^[ \t]*(?:import|from)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)
_REQUIRED = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"\bextra\s*==\s*['\"]([^'\"]+)")
_DEPENDENCIES = re.compile(
    r"^[^\S\n]*dependencies\s*=\s*\[((?:[^\]\"']|\"[^\"\n]*\"|'[^'\n]*')*)\]", re.MULTILINE
)
_CLOCKS = 1.0  # seconds by which the start of a process is told wrongly
Wanted = tuple[str, frozenset[str]]  # a package, and its extras


def _read_needs(tree: Path, packages: Sequence[Mapping[str, Any]], found: Environment) -> None:
    """Note which packages are needed: those that code imports and requirements name, and theirs."""
    installed = {normal_name(package["name"]): package for package in packages}
    owners = defaultdict[str, list[str]](list)
    for name, package in installed.items():
        for module in package["modules"]:
            owners[module].append(name)
    found.versions = {package["name"]: package["version"] for package in packages}
    needs, started = {}, found.started
    off = {node.name for node in found.snapshot.custom_nodes if node.disabled}
    for name, root in {"": tree, **found.node_sources}.items():
        if name in off:
            continue
        modules, changed = _read_sources(root, _BESIDE_CODE if name == "" else frozenset())
        if started is not None and changed > started + _CLOCKS:
            what = f"the node pack {name}" if name else "ComfyUI"
            found.warnings.append(f"{what} was changed after ComfyUI had been started")
        wanted = [(owner, frozenset[str]()) for module in modules for owner in owners[module]]
        needs[name] = _with_theirs([*wanted, *_required(root)], installed)
    late = [
        package["name"]
        for package in packages
        if started is not None and (package["changed"] or 0) > started + _CLOCKS
    ]
    if late:
        found.warnings.append(f"installed after ComfyUI had been started: {', '.join(late)}")
    found.needs = needs if packages else None


def _read_sources(root: Path, beside: frozenset[str]) -> tuple[set[str], float]:
    """Return the modules that code imports, and the time of its last change."""
    modules: set[str] = set()
    changed = 0.0
    for path in islice(_sources_below(root, beside), _MAX_CODE):
        with contextlib.suppress(OSError), path.open("rb") as file:
            changed = max(changed, os.fstat(file.fileno()).st_mtime)
            modules.update(_IMPORTED.findall(file.read(_MAX_SOURCE).decode(errors="replace")))
    return modules, changed


def _sources_below(root: Path, beside: frozenset[str]) -> Iterator[Path]:
    if root.is_file():
        yield root
    for folder, folders, files in os.walk(root):
        kept = (name for name in sorted(folders) if name not in _ENVIRONMENTS | beside)
        folders[:] = [name for name in kept if not name.startswith(".")]
        beside = frozenset()  # only at the top
        if "pyvenv.cfg" in files:
            folders[:] = []
            continue
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))


def _required(root: Path) -> Iterator[Wanted]:
    """Yield the packages that the requirements of ComfyUI or of a pack name."""
    lines = read_text(root / "requirements.txt").splitlines()
    project = _PROJECT.search(read_text(root / "pyproject.toml"))
    listed = _DEPENDENCIES.search(project[1]) if project else None
    lines += re.findall(r"[\"']([^\"'\n]+)[\"']", listed[1]) if listed else []
    for line in lines:
        if (found := _wanted(line)) is not None:
            yield found


def _wanted(line: str) -> Wanted | None:
    found = _REQUIRED.match(line)
    if found is None:
        return None
    return normal_name(found[1]), frozenset(map(normal_name, re.split(r"[\s,]+", found[2] or "")))


def _with_theirs(wanted: Iterable[Wanted], installed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of installed packages, and of those that they require in turn.

    Of other conditions than extras, it counts whether they are installed.
    """
    done, waiting = set[Wanted](), list(wanted)
    while waiting:
        name, extras = waiting.pop()
        if name not in installed or (name, extras) in done:
            continue
        done.add((name, extras))
        for line in installed[name]["requires"]:
            extra = _EXTRA.search(line)
            if (extra is None or normal_name(extra[1]) in extras) and (found := _wanted(line)):
                waiting.append(found)
    return sorted({installed[name]["name"] for name, _ in done}, key=str.lower)


# -- models -----------------------------------------------------------------------------------

_WORKFLOWS = 200  # the newest workflows, which are searched for links to models
_WEB_ADDRESS = re.compile(r"https?://\S+")
_GIB = 1024**3


async def read_models(
    folders: Folders,
    hasher: Hasher,
    transfers: Transfers,
    workflows: LocalWorkflows,
    *,
    hash_all: bool,
    report: Callable[[str], None],
) -> tuple[list[ModelFile], list[str]]:
    """Return the models of a ComfyUI with hashes and sources, and warnings about missing ones.

    Past downloads and links in workflows are the sources. ``hash_all`` computes unknown hashes,
    which reads the files completely; ``report`` gets a line for each.
    """
    entries = await ModelListing(folders).models()
    hashes = await hasher.known([entry["path"] for entry in entries])
    missing = [entry for entry in entries if entry["path"] not in hashes]
    warnings: list[str] = []
    if missing and not hash_all:
        share = f"{len(missing)} of {len(entries)}"
        warnings = [f"{share} models have no known SHA-256; include_models computes it"]
    for number, entry in enumerate(missing if hash_all else (), 1):
        shown = f"{entry['folder']}/{entry['name']}"
        size = entry["size"] / _GIB
        report(f"Hashing {shown} ({number} of {len(missing)}, {size:.1f} GiB)")
        try:
            path = await asyncio.to_thread(Path(entry["path"]).resolve)
            hashes[entry["path"]] = (await hasher.hash(folders, path)).sha256
        except (ConflictError, ForbiddenPathError, NotFoundError) as error:
            warnings.append(f"{shown} has no SHA-256: {error.message}")
    origins, links = await transfers.origins(), await _links(workflows)
    sources = await asyncio.to_thread(_sources, entries, origins, links)
    models = [
        ModelFile(
            name=entry["name"],
            folder=entry["folder"],
            size=entry["size"],
            sha256=hashes.get(entry["path"]),
            source=sources.get(entry["path"]),
        )
        for entry in entries
    ]
    return models, warnings


async def _links(workflows: LocalWorkflows) -> dict[str, str]:
    found: dict[str, str] = {}
    for workflow in await workflows.workflows(limit=_WORKFLOWS):
        version = await workflows.version(workflow["workflow_id"])
        graph = version["workflow"]
        links = await worker.run(model_links, graph)
        for name, link in links.items():
            found.setdefault(name, str(link.url))
    return found


def _sources(
    entries: list[dict[str, Any]], origins: Mapping[str, str], links: Mapping[str, str]
) -> dict[str, str]:
    sources = {}
    for entry in entries:
        path = entry["path"]
        source = origins.get(path) or origins.get(os.path.realpath(path))
        source = clean_url(source or links.get(entry["name"].rsplit("/", 1)[-1]) or "")
        if _WEB_ADDRESS.fullmatch(source):
            sources[path] = source
    return sources


# -- git, without executing any program that the configuration of a repository names ----------

_GIT_TIMEOUT = 20.0  # seconds for git to compare a work tree
_HOSTS = ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org", "huggingface.co")
_FULL_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA256_LENGTH = 64
_FILTER = re.compile(r"\[\s*filter\b", re.IGNORECASE)
_HARMLESS = re.compile(
    r"^[ \t]*(filemode|symlinks|ignorecase|precomposeunicode|autocrlf|eol)[ \t]*=[ \t]*"
    r"(true|false|input|lf|crlf|native)[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Checkout:
    repository: str | None  # public, without credentials; None if it is only on this machine
    commit: str | None
    modified: bool  # tracked files were changed, as far as this can be determined safely


def read_checkout(folder: Path) -> Checkout | None:
    """Return the checkout in a folder, or None if the folder itself is not a repository."""
    if not (folder / ".git").exists():
        return None
    _, directory = git_folders(folder / ".git")
    config, commit = read_text(directory / "config"), git_commit(folder / ".git")
    modified = commit is not None and _is_modified(folder, directory, config, commit)
    return Checkout(_public(_remote(config)), commit, modified)


def _remote(config: str) -> str | None:
    """Return the address of the remote ``origin``, else of the first remote."""
    found: dict[str, str] = {}
    section = None
    for line in config.splitlines():
        header = re.match(r'\s*\[\s*remote\s+"(.*)"\s*\]', line)
        if header or line.lstrip().startswith("["):
            section = header[1] if header else None
        entry = re.match(r"\s*url\s*=\s*(.+?)\s*$", line)
        if section is not None and entry:
            found.setdefault(section, entry[1].strip('"'))
    return found.get("origin") or next(iter(found.values()), None)


def _public(url: str | None) -> str | None:
    """Return an address for other machines: without credentials, and with HTTPS if that works."""
    if not url:
        return None
    scp = re.fullmatch(r"(?:[\w.-]+@)?([\w.-]+):(?!//)(.+)", url)
    if scp and scp[1] in _HOSTS:
        return f"https://{scp[1]}/{scp[2].lstrip('/')}"
    url = clean_url(url)
    parts = urlsplit(url)
    if parts.scheme == "ssh" and parts.hostname in _HOSTS:
        url = f"https://{parts.hostname}{parts.path}"
    return url if is_address(url) else None


def _is_modified(folder: Path, directory: Path, config: str, commit: str) -> bool:
    """Return whether tracked files were changed, by running git.

    git gets a temporary ``.git`` with the objects and the index of the real one, but without its
    configuration (filters, monitors, hooks, other files), which could start any program.
    """
    if _FULL_COMMIT.fullmatch(commit) is None or _FILTER.search(config):
        return False  # the result of a filter is not known
    own, _ = git_folders(folder / ".git")
    with tempfile.TemporaryDirectory(prefix="comfydeploy-") as name:
        (Path(name) / "refs").mkdir()
        (Path(name) / "HEAD").write_text(f"{commit}\n")
        (Path(name) / "config").write_text(_plain_config(config, commit))
        env = {
            **plain_environment(),
            "GIT_DIR": name,
            "GIT_WORK_TREE": str(folder),
            "GIT_OBJECT_DIRECTORY": str(directory / "objects"),
            "GIT_INDEX_FILE": str(own / "index"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
        }
        command = ("git", "status", "--porcelain", "--untracked-files=no")
        try:
            done = subprocess.run(
                [*command, "--ignore-submodules=all"],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_GIT_TIMEOUT,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0 and bool(done.stdout.strip())


def _plain_config(config: str, commit: str) -> str:
    """Return the settings of a repository that only affect how its files are written."""
    kept = [f"{match[1]} = {match[2]}" for match in _HARMLESS.finditer(config)]
    sha256 = len(commit) == _SHA256_LENGTH
    format_of = "[extensions]\nobjectFormat = sha256\n" if sha256 else ""
    core = "\n".join(["[core]", f"repositoryformatversion = {int(sha256)}", *kept])
    return f"{core}\n{format_of}"
