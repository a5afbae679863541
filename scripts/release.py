"""Build a release, and test its installation: `make dist`, `make release-check`.

    python scripts/release.py build           make wheel and sdist in dist/, check their contents
    python scripts/release.py try             install and use the wheel with each Python
    python scripts/release.py suite [--all]   run the tests with the lowest allowed versions;
                                              --all: also with the newest ones on each Python;
                                              --only lowest 3.12: only these

Tests that need a Python which this machine does not have are listed at the end, and the exit code
is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import HeaderParser
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REPOSITORY = Path(__file__).resolve().parent.parent
DIST = REPOSITORY / "dist"
PACKAGE = REPOSITORY / "comfydeploy_jupyter"
CONFIG = "etc/jupyter/jupyter_server_config.d/comfydeploy_jupyter.json"
LAB = "share/jupyter/labextensions/comfydeploy-jupyter"
FAILED = "FAILED: "
LOWEST = "lowest"
LOWEST_EXTRAS = ("dask", "exr", "gpu", "lab", "ui")  # that of `mcp` needs newer packages
JOBS = os.environ.get("JOBS", "2")  # processes that run tests

Names = dict[str, bytes]
"""Files of an archive by their path in it."""


class ReleaseError(Exception):
    """The release has an error; the message describes it."""


def project() -> dict[str, Any]:
    """Return the table ``project`` of pyproject.toml."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        found: dict[str, Any] = tomllib.load(file)["project"]
    return found


def version() -> str:
    """Return the version from `_version.py`, the only file that contains it."""
    return _one(r'^__version__ = "(.+)"$', PACKAGE / "_version.py")


def changelog_version() -> str:
    """Return the version of the changelog's newest entry."""
    return _one(r"^## \[([^\]]+)\]", REPOSITORY / "CHANGELOG.md")


def pythons_claimed() -> list[str]:
    """Return the Python versions of the classifiers, oldest first."""
    prefix = "Programming Language :: Python :: 3."
    return ["3." + c[len(prefix) :] for c in project()["classifiers"] if c.startswith(prefix)]


# --- build -------------------------------------------------------------------------------------


def build(folder: Path, *, isolated: bool = True) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from that sdist.

    Parameters
    ----------
    folder : pathlib.Path
        The folder for both.
    isolated : bool
        Whether the build's requirements are installed, instead of using those of this environment.

    Returns
    -------
    tuple of pathlib.Path
        Wheel and sdist.
    """
    options = ["--installer=uv"] if isolated else ["--no-isolation"]
    call(sys.executable, "-m", "build", *options, "--outdir", folder, REPOSITORY)
    stem = f"comfydeploy_jupyter-{version()}"
    return folder / f"{stem}-py3-none-any.whl", folder / f"{stem}.tar.gz"


def check_metadata(wheel: Path, sdist: Path) -> None:
    """Check the metadata for package indexes and installers: it is complete, with one version."""
    call(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    said = {
        version(),
        changelog_version(),
        sdist.name[len("comfydeploy_jupyter-") : -len(".tar.gz")],
    }
    info = f"comfydeploy_jupyter-{version()}.dist-info"
    files = wheel_files(wheel)
    metadata = HeaderParser().parsestr(files[f"{info}/METADATA"].decode())
    said.add(str(metadata["Version"]))
    if len(said) > 1:
        raise ReleaseError(f"not one version: {sorted(said)}")
    if metadata["License-Expression"] != "BSD-3-Clause" or metadata["License-File"] != "LICENSE":
        raise ReleaseError("the metadata lacks the licence")
    if files[f"{info}/licenses/LICENSE"] != (REPOSITORY / "LICENSE").read_bytes():
        raise ReleaseError("the wheel lacks the text of the licence")


def check_contents(wheel: Path, sdist: Path) -> None:
    """Check that the wheel has only the complete package, and the sdist all other files too."""
    files = wheel_files(wheel)
    stem = f"comfydeploy_jupyter-{version()}"
    tree = {
        path.relative_to(REPOSITORY).as_posix(): path.read_bytes()
        for path in PACKAGE.rglob("*")
        if path.is_file() and not {"__pycache__", "labextension"} & {*path.parts}
    }
    tree[f"{stem}.data/data/{CONFIG}"] = (
        REPOSITORY / "jupyter-config" / "comfydeploy_jupyter.json"
    ).read_bytes()
    lab = PACKAGE / "labextension"
    for path in lab.rglob("*.*"):
        name = path.relative_to(lab).as_posix()
        tree[f"{stem}.data/data/{LAB}/{name}"] = path.read_bytes()
    inside = {k: v for k, v in files.items() if not k.startswith(f"{stem}.dist-info/")}
    _same("the wheel", inside, "the tree", tree)
    for needed in ("py.typed", "widgets/static/panel.css", "static/comfyui.svg"):
        if f"comfydeploy_jupyter/{needed}" not in files:
            raise ReleaseError(f"the wheel lacks {needed}")
    call(sys.executable, "-m", "check_wheel_contents", wheel)
    packed = sdist_files(sdist)
    packed.pop("PKG-INFO")
    tracked = {
        name: (REPOSITORY / name).read_bytes() for name in packed if (REPOSITORY / name).is_file()
    }
    _same("the sdist", packed, "the tree", tracked)
    for needed in ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "tests/conftest.py"):
        if needed not in packed:
            raise ReleaseError(f"the sdist lacks {needed}")
    stray = [n for n in packed if re.search(r"(^|/)(\.(?!gitignore)|__pycache__|dist/|build/)", n)]
    if stray:
        raise ReleaseError(f"the sdist has files that do not belong to it: {stray}")


def check_rebuilt(wheel: Path, folder: Path, *, isolated: bool = True) -> None:
    """Check that the wheels from the tree and from the sdist are the same, byte by byte."""
    options = ["--installer=uv"] if isolated else ["--no-isolation"]
    call(sys.executable, "-m", "build", *options, "--wheel", "--outdir", folder, REPOSITORY)
    _same("the sdist's wheel", wheel_files(wheel), "the tree's", wheel_files(folder / wheel.name))


def wheel_files(path: Path) -> Names:
    """Return the files of a wheel."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sdist_files(path: Path) -> Names:
    """Return the files of an sdist, without its folder."""
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                found[member.name.partition("/")[2]] = file.read()
    return found


def _same(one: str, first: Names, other: str, second: Names) -> None:
    for title, there, here in ((other, second, first), (one, first, second)):
        missing = sorted(there.keys() - here.keys())
        if missing:
            raise ReleaseError(f"only {title} has {missing}")
    different = sorted(name for name in first if first[name] != second[name])
    if different:
        raise ReleaseError(f"{one} and {other} differ in {different}")


# --- try ---------------------------------------------------------------------------------------


def try_wheel(wheel: Path, python: str, *comfyui: str) -> None:
    """Install a wheel into a clean environment, use and remove it; check that no file is left.

    Parameters
    ----------
    wheel : pathlib.Path
        The wheel.
    python : str
        The interpreter.
    comfyui : str
        Options of `smoke.py` that name a ComfyUI.
    """
    with tempfile.TemporaryDirectory(prefix="comfydeploy-release-") as name:
        venv, kept = Path(name) / "venv", Path(name) / "kept"
        kept.mkdir()
        call("uv", "venv", "--quiet", "--seed", "--no-config", "--python", python, venv)
        call("uv", "pip", "install", "--quiet", "--python", venv, wheel)
        installed = files_below(venv)
        ours = {path for path in installed if "comfydeploy" in path}
        for needed in (CONFIG, f"{LAB}/package.json"):
            if needed not in ours:
                raise ReleaseError(f"{needed} is not installed")
        arguments = ("--version", version(), "--folder", kept, *comfyui)
        call(
            venv / "bin" / "python",
            "-I",
            REPOSITORY / "scripts" / "smoke.py",
            *arguments,
            quiet=False,
        )
        call(
            venv / "bin" / "python",
            "-m",
            "pip",
            "uninstall",
            "--quiet",
            "--yes",
            "comfydeploy-jupyter",
        )
        # compiled files of other packages do not belong to this package
        left = {
            path
            for path in files_below(venv) - (installed - ours)
            if "comfydeploy" in path or not path.endswith(".pyc")
        }
        if left:
            raise ReleaseError(f"after its removal these files are left: {sorted(left)}")
        if not (kept / "comfydeploy" / "comfydeploy.db").is_file():
            raise ReleaseError("the data folder is gone")
        print("  removed; only the data folder is left")


def files_below(folder: Path) -> set[str]:
    """Return every file and every empty folder, relative to the folder."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.is_dir() or not any(path.iterdir())
    }


def find_python(wanted: str) -> str | None:
    """Return an interpreter of a version such as ``"3.12"`` on this machine."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [
        shutil.which(f"python{wanted}"),
        *sorted(map(str, versions.glob(f"{wanted}.*/bin/python")), reverse=True),
        sys.executable,
    ]
    code = "import sqlite3, ssl, sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-c", code], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == wanted:
            return candidate
    return None


def check_resolves(python: str) -> None:
    """Check that every dependency has a release for a Python, and that the lowest version is one.

    The Python need not be installed.
    """
    source = REPOSITORY / "pyproject.toml"
    command = ("uv", "pip", "compile", "--quiet", "--no-config", "--output-file", os.devnull)
    command = (*command, "--python-version", python, "--only-binary", ":all:", str(source))
    call(*command, "--all-extras", "--group", f"{source}:test")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(lowest_versions()))
        constraints.flush()
        extras = (word for extra in LOWEST_EXTRAS for word in ("--extra", extra))
        call(*command, *extras, "--constraints", constraints.name)


def check_syntax(oldest: str) -> None:
    """Check that no feature is used that the oldest Python does not have."""
    call("vermin", "--quiet", "--no-tips", "--violations", f"--target={oldest}-", PACKAGE)


# --- suite -------------------------------------------------------------------------------------


def lowest_versions() -> list[str]:
    """Return every dependency of users at the lowest version that pyproject.toml allows."""
    tables = project()
    extras = (tables["optional-dependencies"][extra] for extra in LOWEST_EXTRAS)
    claimed = chain(tables["dependencies"], *extras)
    return [requirement.replace(">=", "==", 1) for requirement in claimed]


def run_suite(python: str, *, lowest: bool) -> None:
    """Run the tests that need no browser, with the lowest or the newest versions."""
    with tempfile.TemporaryDirectory(prefix="comfydeploy-release-") as name:
        venv, constraints = Path(name) / "venv", Path(name) / "constraints.txt"
        constraints.write_text("\n".join(lowest_versions()) if lowest else "")
        call("uv", "venv", "--quiet", "--seed", "--no-config", "--python", python, venv)
        call(
            *("uv", "pip", "install", "--quiet", "--python", venv, "--constraints", constraints),
            *("--group", f"{REPOSITORY / 'pyproject.toml'}:test"),
            *("--editable", f"{REPOSITORY}[lab]"),
        )
        # Old packages cause warnings about newer ones, and one about a plugin of pytest when it is
        # loaded. Warnings about our code are found with the newest packages.
        old = ("-W", "default", "-p", "no:anyio") if lowest else ()
        env = {**os.environ, "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        options = ("-n", JOBS, "--no-loadscope-reorder", "--ignore=tests/browser", *old)
        command = [venv / "bin" / "python", "-m", "pytest", *options]
        call(*command, quiet=False, env=env)


# --- the command line --------------------------------------------------------------------------


def call(*command: object, quiet: bool = True, env: dict[str, str] | None = None) -> None:
    """Run a program in the repository; show its output if it fails, or at once.

    Raises
    ------
    ReleaseError
        If it fails.
    """
    arguments = [str(part) for part in command]
    tool = Path(sys.executable).parent / arguments[0]
    if tool.is_file():  # the program of this environment
        arguments[0] = str(tool)
    done = subprocess.run(
        arguments,
        cwd=REPOSITORY,
        env=env,
        text=True,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
    )
    if done.returncode:
        raise ReleaseError(f"{' '.join(arguments)} failed\n{done.stdout or ''}")


def step(what: str, action: Callable[..., object], *arguments: Any, **options: Any) -> str | None:
    """Do one of several steps; return the error."""
    print(what, flush=True)
    try:
        action(*arguments, **options)
    except ReleaseError as error:
        print(f"{FAILED}{error}", flush=True)
        return f"{FAILED}{what}"
    return None


def build_all(_: argparse.Namespace) -> Iterable[str | None]:
    """Build into dist/ and check the result."""
    shutil.rmtree(DIST, ignore_errors=True)
    wheel, sdist = build(DIST)
    yield step("metadata", check_metadata, wheel, sdist)
    yield step("contents", check_contents, wheel, sdist)
    with tempfile.TemporaryDirectory() as folder:
        yield step("the same wheel from the tree", check_rebuilt, wheel, Path(folder))
    print(wheel, sdist, sep="\n")


def try_all(options: argparse.Namespace) -> Iterable[str | None]:
    """Try the wheel of dist/ on each Python."""
    claimed = pythons_claimed()
    yield step(f"nothing newer than Python {claimed[0]}", check_syntax, claimed[0])
    comfyui = ("--comfyui-path", options.comfyui) if options.comfyui else ()
    wheel = DIST / f"comfydeploy_jupyter-{version()}-py3-none-any.whl"
    for python in claimed:
        yield step(f"releases of all dependencies for Python {python}", check_resolves, python)
        found = find_python(python)
        if found is None:
            yield f"NOT TESTED: Python {python}, which is not on this machine"
        else:
            yield step(f"the wheel on Python {python}: {found}", try_wheel, wheel, found, *comfyui)
    if not options.comfyui:
        yield "NOT TESTED: a workflow; COMFYUI_TEST_PATH names no ComfyUI"


def suites(options: argparse.Namespace) -> Iterable[str | None]:
    """Run the tests on the oldest and, with ``--all``, on each Python."""
    claimed = pythons_claimed()
    wanted = options.only or [LOWEST, *(claimed if options.all else ())]
    found = {python: find_python(python) for python in claimed}
    for name in wanted:
        path = next(filter(None, found.values())) if name == LOWEST else found[name]
        if path is None:
            yield f"NOT TESTED: Python {name}, which is not on this machine"
        else:
            where = "with the lowest versions" if name == LOWEST else f"on Python {name}"
            yield step(f"the tests {where}: {path}", run_suite, path, lowest=name == LOWEST)


def main() -> int:
    """Parse the command line and run the command; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    for name, action in (("build", build_all), ("try", try_all), ("suite", suites)):
        command = commands.add_parser(name, help=action.__doc__)
        command.set_defaults(action=action)
        if name == "suite":
            command.add_argument("--all", action="store_true", help="on each Python")
            parts = [LOWEST, *pythons_claimed()]
            command.add_argument("--only", nargs="+", choices=parts, help="these alone")
    options = parser.parse_args()
    options.comfyui = os.environ.get("COMFYUI_TEST_PATH")
    try:
        faults = list(filter(None, options.action(options)))
    except ReleaseError as error:
        faults = [f"{FAILED}{error}"]
    print("\n".join(faults) or "All is well.")
    return bool(faults)


def _one(pattern: str, path: Path) -> str:
    found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ReleaseError(f"{path.name} names no version")
    return found[1]


if __name__ == "__main__":
    sys.exit(main())
