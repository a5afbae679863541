"""Find a ComfyUI that answers or can be started, its process, and its interpreter.

Functions that are not coroutines read files or start short programs: call them in a thread. Nothing
here imports torch or runs ComfyUI.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ipaddress
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import psutil
from yarl import URL

from ..errors import ComfyUIUnavailableError
from ..util.child import plain_environment
from ..util.http import CheckedConnector, new_session, read
from ..util.sockets import Peers, connections_of, is_trusted, listeners, processes_of
from ..util.system import read_regular, user_name
from ..util.tasks import wait_for
from .client import PLAIN, Access

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MAX_LINKS = 40  # links that are followed in one path, as on Linux
# Folders of a ComfyUI with data only. Files in other folders may be executed: ComfyUI-Manager runs
# scripts in `user` when ComfyUI starts, and git runs the hooks of a repository.
_DATA = frozenset({"models", "input", "output", "temp"})
_ALL_USERS = ["0", "0", str(2**32 - 1)]  # the user ids of a system without user namespaces
_NO_SHELLS = frozenset({"nologin", "false", "sync", "shutdown", "halt"})
OPTION = re.compile(r"(--?[A-Za-z][\w-]*)(=.*)?", re.DOTALL)
# What to give a ComfyUI that does not have an option of other versions: the name of an option that
# it may have, and the advice then; "": in any case.
OTHER_VERSIONS = {
    "--offline": (
        "--disable-api-nodes",
        "newer versions do; the nearest here is --disable-api-nodes",
    ),
    "--disable-partner-nodes": ("--disable-api-nodes", "its name here is --disable-api-nodes"),
    "--disable-api-nodes": (
        "--disable-partner-nodes",
        "its name here is --disable-partner-nodes",
    ),
    "--disable-assets": ("", "assets are off here unless --enable-assets is given"),
    "--enable-assets": ("--disable-assets", "assets are on here unless --disable-assets is given"),
}
INSTALL_COMMAND = "python -m comfydeploy_jupyter.comfyui.install"
INSTALL_PATH = "~/ComfyUI"
# The environment variables that determine which packages an interpreter finds.
PYTHON_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE")
USUAL_PORT = 8188
MAX_TEXT = 16 * 1024**2  # bytes of a file of git, or of ComfyUI's source
CONNECT_TIMEOUT = 1.0  # seconds that this machine has to accept or refuse a connection to itself


def objection(path: Path) -> str | None:
    """Return who else could have created, or can change, what is at a path; None if nobody.

    It, and each folder and link of its path, must belong to this user or to root. Nobody else may
    be able to write to it or to a folder of its path, except that these folders may be sticky, as
    ``/tmp`` is: others can create files there, but not replace what belongs to this user or root.
    """
    here = Path("/")
    waiting = list(reversed(Path(os.path.abspath(path)).parts[1:]))  # noqa: PTH100 - links stay
    links = 0
    found = _objection(here, above=True)
    while waiting and found is None:
        name = waiting.pop()
        here = here.parent if name == ".." else here / name
        if here.is_symlink():
            links += 1
            if links > MAX_LINKS:
                return f"{path} contains too many links"
            target = here.readlink()
            found = _foreign_owner(here, here.lstat().st_uid)
            here = Path("/") if target.is_absolute() else here.parent
            waiting += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        else:
            found = _objection(here, above=True)
    return found or _objection(here)


def objection_to_tree(tree: Path) -> str | None:
    """Return the `objection` to a ComfyUI's folder, program or custom nodes."""
    found = objection(tree)
    packs = tree / "custom_nodes"
    for folder in (tree, packs):
        entries = sorted(folder.iterdir()) if found is None and folder.is_dir() else []
        for entry in entries:
            if found is None and not (folder == tree and entry.name in _DATA):
                found = objection(entry)
    return found


def objection_to_python(python: Path) -> str | None:
    """Return the `objection` to an interpreter or its environment."""
    environment, real = python.parent.parent, Path(os.path.realpath(python))
    parts = [
        # each folder in which Python looks for files that may be missing now
        environment,
        python.parent,
        real.parent.parent,
        real.parent,
        python,
        *environment.glob("pyvenv.cfg"),
        *environment.glob("lib"),
        *environment.glob("lib/python*"),
        *environment.glob("lib/python*/site-packages"),
    ]
    return next(filter(None, map(objection, parts)), None)


def _objection(path: Path, *, above: bool = False) -> str | None:
    facts = path.lstat()
    found = _foreign_owner(path, facts.st_uid)
    if found is not None or (above and facts.st_mode & stat.S_ISVTX):
        return found
    if facts.st_mode & stat.S_IWOTH:
        who = "all users"
    elif facts.st_mode & stat.S_IWGRP and _has_others(path, facts.st_gid):
        who = "other users"
    else:
        return None
    return None if _is_alone() else f"{who} of this machine may write to {path}"


def _is_alone() -> bool:
    """Return whether no other user can act here, as in most containers with a GPU; False in doubt.

    No other user has a process or can log in. Only root is sure of that: the containers of an
    ordinary user, and those with user ids of their own, share folders with users outside of them.
    """
    import pwd

    proc = Path("/proc")
    try:
        if os.getuid() != 0 or (proc / "self/uid_map").read_text().split() != _ALL_USERS:
            return False
        mounts = (proc / "self/mounts").read_text().splitlines()
        if any(line.split()[1] == "/proc" and "hidepid=" in line for line in mounts):
            return False
        sources = re.findall(r"(?m)^passwd:(.*)", Path("/etc/nsswitch.conf").read_text())
        if len(sources) != 1 or not set(sources[0].split()) <= {"files", "systemd"}:
            return False  # such as LDAP, whose users cannot be listed
        if any(
            account.pw_uid != 0 and Path(account.pw_shell or "sh").name not in _NO_SHELLS
            for account in pwd.getpwall()
        ):
            return False
        processes = [entry for entry in proc.iterdir() if entry.name.isdigit()]
        return bool(processes) and all(map(_is_of_root, processes))
    except OSError:
        return False


def _is_of_root(process: Path) -> bool:
    try:
        status = (process / "status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True  # it has ended
    return re.findall(r"(?m)^Uid:\s+(.*)", status) == ["0\t0\t0\t0"]


def _foreign_owner(path: Path, uid: int) -> str | None:
    if uid in (os.getuid(), 0):
        return None
    return f"{path} belongs to the user {user_name(uid) or uid}"


def _has_others(path: Path, gid: int) -> bool:
    """Return whether other users than this one and root are in a group, or an ACL names users."""
    if hasattr(os, "listxattr") and "system.posix_acl_access" in os.listxattr(path):
        return True  # the group bits also limit the users in an ACL
    if gid == 0:
        return False
    import grp
    import pwd

    own = {os.getuid(), 0}
    try:
        members = grp.getgrgid(gid).gr_mem
    except KeyError:
        members = []
    accounts = pwd.getpwall()
    return any(
        account.pw_uid not in own and (account.pw_gid == gid or account.pw_name in members)
        for account in accounts
    )


USUAL_PLACES: tuple[str, ...] = (
    INSTALL_PATH,  # the installer's default, AWS and Lambda images
    "/workspace/ComfyUI",  # RunPod, vast.ai
    "/workspace/madapps/ComfyUI",  # RunPod "madapps" templates
    "/workspace/runpod-slim/ComfyUI",  # RunPod slim template
    "/opt/ComfyUI",
    "/opt/workspace-internal/ComfyUI",  # ai-dock, vast.ai
    "/comfyui",  # runpod-workers
    "/ComfyUI",
    "/app/ComfyUI",
    "/root/ComfyUI",
    "~/comfy/ComfyUI",  # comfy-cli
    "~/Documents/ComfyUI",  # ComfyUI Desktop
    "/notebooks/ComfyUI",  # Paperspace
    "/storage/ComfyUI",  # Paperspace, persistent
    "/content/ComfyUI",  # Colab
    "/content/drive/MyDrive/ComfyUI",  # Colab with Drive
    "/kaggle/working/ComfyUI",
    "/teamspace/studios/this_studio/ComfyUI",  # Lightning
    "~/SageMaker/ComfyUI",
    "/home/jovyan/ComfyUI",  # Jupyter images
    "/mnt/ComfyUI",
    "/data/ComfyUI",
)


@dataclass(frozen=True)
class Found:
    """A ComfyUI that :func:`discover` found."""

    kind: Literal["url", "path"]  # `url`: this server never starts it; `path`: this server does
    url: str | None = None  # its address without a trailing slash, for the kind `url`
    path: Path | None = None
    python: Path | None = None  # the interpreter to start it with, if one was found
    passed_over: str | None = None  # why one in a usual place is not used


async def discover(
    *,
    comfyui_url: str = "",
    comfyui_path: str = "",
    comfyui_python: str = "",
    places: Sequence[str] = USUAL_PLACES,
    port: int | None = USUAL_PORT,  # None: only the configuration is used
    peers: Peers | None = None,
) -> Found:
    """Return the ComfyUI to use.

    Tried in this order: the configured address; a ComfyUI that answers at ``port`` of this machine;
    the configured folder; the first of ``places`` with a ComfyUI. No request is sent to a
    configured address, so a ComfyUI that starts later is used as well.
    """
    path = _configured(comfyui_path)
    python = _configured(comfyui_python)
    if comfyui_url:
        return Found("url", url=comfyui_url.rstrip("/"), path=path, python=python)
    url = f"http://127.0.0.1:{port}"
    passed_over = None
    if port is not None:
        try:
            if await what_answers(url, peers=peers) is None:
                return Found("url", url=url, path=path, python=python)
        except ComfyUIUnavailableError as error:
            passed_over = error.message if error.details.get("foreign") else None
    if path is not None and not await asyncio.to_thread(is_comfyui_tree, path):
        raise ComfyUIUnavailableError(
            f"comfyui_path: there is no ComfyUI in {path}.",
            extra={
                "hint": f"Correct comfyui_path, or install one: {INSTALL_COMMAND} --path {path}"
            },
        )
    by_chance = path is None
    if path is None:
        path, refused = await asyncio.to_thread(_first_tree, places)
        passed_over = " ".join(filter(None, (passed_over, refused))) or None
    if path is None:
        at_port = passed_over or f"No ComfyUI answers at {url}."
        raise ComfyUIUnavailableError(
            f"No ComfyUI was found. {at_port} No ComfyUI is installed in the usual folders.",
            details={"places": list(places)},
            extra={
                "hint": f"Install one with: {INSTALL_COMMAND} — or set comfyui_url or comfyui_path."
            },
        )
    if python is None:
        python = await asyncio.to_thread(find_python, path, by_chance=by_chance)
    return Found("path", path=path, python=python, passed_over=passed_over)


def _configured(path: str) -> Path | None:
    return Path(path).expanduser() if path else None


async def answers(url: str, timeout: float = 5.0, *, peers: Peers | None = None) -> bool:
    """Return whether a ComfyUI of `peers` answers at ``url`` within ``timeout`` seconds.

    The result is immediate if no process listens; a ComfyUI that loads a model may take seconds.
    """
    try:
        return await what_answers(url, timeout, peers=peers) is None
    except ComfyUIUnavailableError:
        return False


async def what_answers(
    url: str, timeout: float = 5.0, *, peers: Peers | None = None, access: Access = PLAIN
) -> str | None:
    """Return None if a ComfyUI answers at ``url``, else a description of the answer.

    The JSON of ``GET /system_stats`` must have ``devices``, and a ``system`` with ComfyUI's
    version or, as in older versions, ``argv`` (ComfyUI, server.py). Redirects are not followed.
    """
    try:
        async with (
            new_session(
                CheckedConnector(peers or Peers(), access.tls),
                total=timeout,
                headers=dict(access.headers),
            ) as session,
            session.get(f"{url.rstrip('/')}/system_stats", allow_redirects=False) as reply,
        ):
            if 300 <= reply.status < 400:
                return "a redirect"
            if reply.status != 200:
                return f"status {reply.status}"
            text, whole = await read(reply, 1_000_000)
            if not whole:
                return "a response without an end"
    except (asyncio.TimeoutError, OSError, aiohttp.ClientConnectionError) as error:
        reason = str(error) or f"no answer within {timeout:g} s"
        raise ComfyUIUnavailableError(f"ComfyUI at {url} does not answer: {reason}") from None
    except (aiohttp.ClientError, ValueError):
        return "a response that is not HTTP"
    try:
        stats: Any = json.loads(text)
    except (ValueError, RecursionError):
        return "a response that is not JSON"
    known = (
        isinstance(stats, dict)
        and isinstance(stats.get("devices"), list)
        and isinstance(stats.get("system"), dict)
        and not stats["system"].keys().isdisjoint({"comfyui_version", "argv"})
    )
    return None if known else "JSON that does not come from ComfyUI"


def is_comfyui_tree(path: Path) -> bool:
    try:
        return (path / "main.py").is_file() and (path / "comfy").is_dir()
    except OSError:
        return False


def launch_options(path: Path) -> frozenset[str]:
    """Return the options of the ``main.py`` in a ComfyUI folder; empty if unknown.

    They are read from ``comfy/cli_args.py`` without running it.
    """
    text = read_text(path / "comfy" / "cli_args.py")
    return frozenset(re.findall(r"add_argument\(\s*[\"'](--[\w-]+)[\"']", text))


def unknown_option(arguments: Sequence[str], path: Path) -> str | None:
    """Return a sentence about the first argument that is no option of the ComfyUI in a folder.

    None if there is none, or if its options are not known.
    """
    known = launch_options(path)
    for argument in arguments:
        option = OPTION.fullmatch(argument)
        if not known or option is None or option[1] in {"-h", "--help"}:
            continue
        # argparse accepts a unique prefix of an option.
        if not any(name == option[1] or name.startswith(option[1]) for name in known):
            version, _ = installed_version(path)
            named = f"the ComfyUI in {path}" + (f" ({version})" if version else "")
            text = f"{named} has no option {option[1][:80]!r}"
            if option[1] not in OTHER_VERSIONS:
                return text
            other, advice = OTHER_VERSIONS[option[1]]
            return f"{text}: {advice if not other or other in known else 'newer versions do'}"
    return None


def own_folder_arguments(
    path: Path, given: Sequence[str], *, output: Path, folder: Path
) -> list[str]:
    """Return the arguments that separate the files of a ComfyUI from others of the same tree.

    With one output folder, they would overwrite each other's pictures, and each one empties the
    temporary folder at its start.
    """
    own = {
        "--output-directory": str(output),
        "--temp-directory": str(folder),
        "--database-url": f"sqlite:///{folder / 'comfyui.db'}",
    }
    options = launch_options(path) - {argument.partition("=")[0] for argument in given}
    return [part for pair in own.items() if pair[0] in options for part in pair]


def _first_tree(places: Sequence[str]) -> tuple[Path | None, str | None]:
    """Return the first ComfyUI that no other user can change, and why earlier ones are not used."""
    refused: list[str] = []
    for place in places:
        tree = Path(place).expanduser()
        if is_comfyui_tree(tree):
            why = _checked(objection_to_tree, tree)
            if why is None:
                return tree, " ".join(refused) or None
            refused.append(f"The ComfyUI in {tree} is not used: {why}; set comfyui_path to use it.")
    return None, " ".join(refused) or None


def find_python(path: Path, *, by_chance: bool = False) -> Path | None:
    """Return the interpreter for a ComfyUI folder.

    It is in a virtual environment in the folder (``venv``, ``.venv``) or next to it, else it is the
    running interpreter if that has torch, else None. An interpreter that users other than this one
    and root can change is accepted only if the user has configured the folder.
    """
    python = next((each for each, why in _pythons(path, by_chance) if why is None), None)
    if python is None and importlib.util.find_spec("torch"):
        return Path(sys.executable)
    return python


def refused_pythons(path: Path) -> list[str]:
    """Return a sentence for each interpreter that `find_python` does not use, with the reason."""
    return [
        f"{python} is not used: {why}; set comfyui_python to use it."
        for python, why in _pythons(path, by_chance=True)
        if why is not None
    ]


def _pythons(path: Path, by_chance: bool) -> Iterator[tuple[Path, str | None]]:
    """Yield the interpreters in and next to a folder, each with the reason not to use it."""
    for folder in (path, path.parent):
        for name in ("venv", ".venv"):
            python = folder / name / "bin" / "python"
            if os.access(python, os.X_OK):
                named = folder == path and not by_chance
                yield python, None if named else _checked(objection_to_python, python)
            elif os.path.lexists(python.parent.parent):
                yield python, "it is missing or cannot be executed"


def _checked(objection: Callable[[Path], str | None], path: Path) -> str | None:
    try:
        return objection(path)
    except OSError as error:
        return f"its folder cannot be read ({error.strerror})"


def installed_version(path: Path) -> tuple[str | None, str | None]:
    """Return version and git commit of the ComfyUI in ``path``; each is None if unknown.

    The version is read from ``comfyui_version.py`` (else ``pyproject.toml``), the commit from
    ``.git`` without running git.
    """
    version = _search(path / "comfyui_version.py", r'__version__\s*=\s*"([^"]+)"') or _search(
        path / "pyproject.toml", r'^version\s*=\s*"([^"]+)"'
    )
    return version, git_commit(path / ".git")


def _search(file: Path, pattern: str) -> str | None:
    match = re.search(pattern, read_text(file), re.MULTILINE)
    return match[1] if match else None


def read_text(file: Path) -> str:
    """Return the text of a file that another user may have written; empty if it does not exist.

    Pipes and devices are not read, and the number of bytes is limited.
    """
    try:
        return read_regular(file, MAX_TEXT).decode(errors="replace")
    except OSError:
        return ""


def git_folders(git: Path) -> tuple[Path, Path]:
    """Return the folder with ``HEAD`` and index, and that with the rest, of work trees the same."""
    # An additional work tree or a submodule has a file that contains the path of the folder.
    elsewhere = _search(git, r"^gitdir:\s*(.+)$")
    own = git.parent / elsewhere if elsewhere else git
    return own, own / (_search(own / "commondir", r"^(.+)$") or "")


def git_commit(git: Path) -> str | None:
    """Return the commit that is checked out according to ``.git``, None if unknown."""
    own, shared = git_folders(git)
    head = _search(own / "HEAD", r"^(.+)$")
    if head is None or not head.startswith("ref: "):
        return head
    reference = head.removeprefix("ref: ").strip()
    return _search(shared / reference, r"^([0-9a-f]{40,})") or _search(
        shared / "packed-refs", rf"^([0-9a-f]{{40,}}) {re.escape(reference)}$"
    )


def output_of(command: Sequence[str], timeout: float, *variables: str) -> str | None:
    """Return what a short program prints; None if it fails. It gets a minimal environment."""
    try:
        done = subprocess.run(
            command,
            env=plain_environment(*variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def has_gpu(env: Mapping[str, str] | None = None) -> bool:
    """Return whether this machine has a GPU that ComfyUI can use, without importing torch.

    Accepted are device files of NVIDIA, AMD and WSL, an ``nvidia-smi`` that lists a GPU, and
    Apple's chips. GPUs that ``CUDA_VISIBLE_DEVICES`` hides are ignored.
    """
    env = os.environ if env is None else env
    if sys.platform == "darwin":
        return os.uname().machine == "arm64"
    if env.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1", "NoDevFiles"}:
        return False
    devices = Path("/dev")
    if any(devices.glob("nvidia[0-9]*")) or any(
        (devices / name).exists() for name in ("kfd", "dxg")
    ):
        return True
    nvidia_smi = shutil.which("nvidia-smi", path=env.get("PATH"))
    listed = None if nvidia_smi is None else output_of([nvidia_smi, "-L"], 10)
    return listed is not None and listed.startswith("GPU ")


@dataclass(frozen=True)
class TorchBuild:
    """The torch of an interpreter, read from its files."""

    version: str  # version, for example `2.9.1+cu128`
    accelerated: bool  # whether it is built for a GPU (CUDA, ROCm, XPU, Apple)
    site: Path  # the folder that contains it, a `site-packages`


def torch_build(python: Path | str) -> TorchBuild | None:
    """Return the torch that ``python`` would import; None if it has none or cannot be run."""
    script = (
        "import importlib.util; spec = importlib.util.find_spec('torch'); "
        "print(spec.origin or '' if spec else '')"
    )
    printed = (output_of([str(python), "-c", script], 60, *PYTHON_VARIABLES) or "").strip()
    if not printed:
        return None
    package = Path(printed).parent
    version = _search(package / "version.py", r"^__version__[^=]*=\s*['\"]([^'\"]+)")
    if version is None:
        return None
    accelerator = _search(package / "version.py", r"^(?:cuda|hip|xpu)[^=]*=\s*['\"]([^'\"]+)")
    return TorchBuild(version, sys.platform == "darwin" or bool(accelerator), package.parent)


@dataclass(frozen=True)
class Running:
    pid: int
    python: Path | None  # the interpreter in its command line
    path: Path | None  # the folder of its `main.py`
    arguments: tuple[str, ...] | None = None  # after `main.py`; None without a `main.py`
    folder: Path | None = None
    started: float | None = None  # seconds since 1970


def running_at(url: str) -> Running | None:
    """Return the process that listens at an address of this machine; None if unknown.

    It is unknown if the address is on another machine, or the process belongs to other users than
    this one and root.
    """
    pid = pid_at(url)
    return describe(pid) if pid is not None else None


def pid_at(url: str) -> int | None:
    """Return the id of the process that `running_at` describes.

    If several processes share the socket, it is one with ``main.py`` in its command line.
    """
    try:
        host, port = _host_and_port(url)
    except ValueError:
        return None
    address = _address_here(host)
    if address is None:
        return None
    try:
        owners = [each for each in listeners((address, port)) if each.uid in (os.getuid(), 0)]
        pids = list(processes_of(owners)) if owners else []
    except OSError:  # no /proc, as on macOS
        pids = [pid for pid in _listening(port) if is_trusted(pid)]
    scripts = (pid for pid in pids if describe(pid).arguments is not None)
    return next(scripts, pids[0] if pids else None)


async def nothing_listens_at(url: str) -> bool:
    """Return whether this machine refuses connections to one of its addresses.

    If it does, the process that listened there has exited. False for an address of another machine,
    and if a connection is neither accepted nor refused.
    """
    loop = asyncio.get_running_loop()
    try:
        host, port = _host_and_port(url)
        if _address_here(host) is None:
            return False
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (ValueError, OSError):
        return False
    refused = False
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as sock:
                sock.setblocking(False)
                await wait_for(loop.sock_connect(sock, address), CONNECT_TIMEOUT)
        except ConnectionRefusedError:
            refused = True
        except asyncio.TimeoutError:
            return False
        except OSError:  # this machine has no such address, such as ::1 without IPv6
            continue
        else:
            return False
    return refused


def _listening(port: int) -> Iterator[int]:
    """Yield the processes that listen on a port of this machine, as far as they are visible."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            listening = (c for c in connections_of(process) if c.status == psutil.CONN_LISTEN)
            if any(connection.laddr.port == port for connection in listening):
                yield process.pid


def describe(pid: int) -> Running:
    """Return the folder and arguments in the command line of a ComfyUI process."""
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        folder, started = Path(process.cwd()), process.create_time()
    except psutil.Error:
        return Running(pid, None, None)
    if not is_trusted(pid):
        return Running(pid, None, None)  # its command line may name any program and folder
    python = _program(process, words[0], folder) if words else None
    scripts = (at for at, word in enumerate(words) if at and Path(word).name == "main.py")
    at = next(scripts, None)
    if at is None:
        return Running(pid, python, None, None, folder, started)
    home = (folder / words[at]).parent
    tree = home if is_comfyui_tree(home) else None
    return Running(pid, python, tree, tuple(words[at + 1 :]), folder, started)


def running_from(tree: Path) -> list[int]:
    """Return the processes of this user that execute the ComfyUI in a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.uids().real == os.getuid() and describe(process.pid).path == tree:
                found.append(process.pid)
    return found


def _program(process: psutil.Process, name: str, folder: Path) -> Path | None:
    if "/" in name:
        found = folder / name
    else:
        try:
            search = process.environ().get("PATH", "")
        except psutil.Error:
            return None
        where = shutil.which(name, path=search)
        if where is None:
            return None
        found = Path(where)
    is_python = re.match(r"python|pypy", found.name) is not None
    return found if is_python and os.access(found, os.X_OK) else None


def _host_and_port(url: str) -> tuple[str, int]:
    """Return the host and the port of an address; ValueError if it lacks one of them."""
    parts = URL(url)
    if parts.host is None or parts.port is None:
        raise ValueError("the address has no host, or an unknown scheme")
    return parts.host, parts.port


def _address_here(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return None
    if address.is_unspecified:
        return ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return address if address.is_loopback else None
