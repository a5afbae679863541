"""Two versions of ComfyUI in one place: the one that is used, and the one that is kept.

``ComfyUI`` is the folder that is used. ``ComfyUI.kept`` beside it has the version before: its
program and its Python environment. Everything else (models, node packs, pictures, settings) belongs
to the user, exists once, and stays in ``ComfyUI``.

To change versions, the two folders exchange their names in one step. Before that, the folder that
comes has a link for each entry of the user, which leads to where the entry will be afterwards.
After that, each link and its entry exchange their places, also in one step. So ``ComfyUI`` works at
any time, whatever kills the process, and `settle` completes what was begun. On a file system that
cannot exchange names there is no ``ComfyUI`` between two renames; `settle` completes that, too.

The functions here block: call them in a thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ..util.system import exchange_names, lock_file
from .find import (
    PYTHON_VARIABLES,
    git_commit,
    objection_to_python,
    objection_to_tree,
    output_of,
    read_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger("comfydeploy_jupyter")

STAMP = "venv/comfydeploy-install.json"
# Folders of users, although ComfyUI's source has files in some of them.
OF_USERS = frozenset({"custom_nodes", "input", "models", "output", "temp", "user"})
OF_PROGRAM = frozenset({".git", "__pycache__", "venv"})
MAX_NOTES = 10


class KeptError(Exception):
    """The versions were not exchanged; the message is a single sentence for the user."""


@dataclass(frozen=True)
class Kept:
    """The version that is kept beside a ComfyUI."""

    version: str
    commit: str | None
    size: int | None  # the bytes that it alone needs: files of both versions exist once
    since: float | None  # Unix time


def kept_path(tree: Path) -> Path:
    return tree.with_name(f"{tree.name}.kept")


def partial_path(tree: Path) -> Path:
    """Return the folder in which a new version is built."""
    return tree.with_name(f"{tree.name}.partial")


def _older_path(tree: Path) -> Path:
    """Return the folder of the version that was kept before, while another takes its place."""
    return tree.with_name(f"{tree.name}.older")


def _swap_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.swap")


def read_stamp(tree: Path) -> dict[str, Any] | None:
    """Return the content of a folder's stamp file; None if its environment does not work."""
    return _stamp(tree) if venv_python(tree).exists() else None


def _stamp(tree: Path) -> dict[str, Any] | None:
    try:
        stamp = json.loads(read_text(tree / STAMP))
    except (ValueError, RecursionError):
        return None
    return stamp if isinstance(stamp, dict) and isinstance(stamp.get("version"), str) else None


def write_stamp(tree: Path, stamp: dict[str, Any]) -> None:
    beside = tree / f"{STAMP}.new"
    beside.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    beside.replace(tree / STAMP)


def venv_python(tree: Path) -> Path:
    return tree / "venv" / "bin" / "python"


def kept(tree: Path) -> Kept | None:
    """Return the version that is kept beside a ComfyUI; None if there is none that can be used."""
    tree = tree.resolve()
    stamp = read_stamp(kept_path(tree))
    if stamp is None or stamp.get("unused"):
        return None
    size, since = (stamp.get(name) for name in ("size", "since"))
    return Kept(
        stamp["version"].removeprefix("v"),
        git_commit(kept_path(tree) / ".git"),
        size if isinstance(size, int) else None,
        since if isinstance(since, (int, float)) else None,
    )


@contextlib.contextmanager
def locked(folder: Path, *, inherited: bool = False, wait: bool = False) -> Iterator[None]:
    """Lock the versions of the ComfyUIs in a folder; BlockingIOError if another process has them.

    ``inherited`` means that child processes have the lock, too: if an installer was killed, its pip
    may still be running, and the next installer waits for it.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.set_inheritable(lock, inherited)
        lock_file(lock, wait=wait)
        yield
    finally:
        os.close(lock)


# --- changing versions; callers hold the lock, and give the folder itself, not a link to it


def replace(tree: Path, new: Path) -> None:
    """Use a complete new version, built in `partial_path`, and keep the present one."""
    before, older = kept_path(tree), _older_path(tree)
    write_stamp(new, {**(read_stamp(new) or {}), "unused": True})
    if before.exists():
        before.replace(older)
    new.replace(before)
    try:
        _exchange_trees(tree)
    finally:
        settle(tree)


def go_back(tree: Path) -> list[str]:
    """Use the version that is kept, and keep the present one; return what the user should know."""
    tree = tree.resolve()
    settle(tree)
    other = kept_path(tree)
    if kept(tree) is None:
        raise KeptError(f"no earlier version is kept beside {tree}")
    why = objection_to_tree(other) or objection_to_python(venv_python(other))
    if why is not None:
        raise KeptError(f"the version in {other} is not used: {why}")
    _exchange_trees(tree)
    _finish(tree)
    database = fit_database(tree, tree / "user" / "comfyui.db")
    return [*([] if database is None else [database]), *pack_notes(tree)]


def settle(tree: Path) -> None:
    """Complete or undo a change of versions that was interrupted."""
    other, older = kept_path(tree), _older_path(tree)
    if _stamp(_swap_path(tree)) is not None:
        _mend(tree, other)
    for name in _names(tree):
        given = name.removesuffix(".swap")
        if given != name and _leads_to(tree / name, _target(other, given)):
            _mend(tree / given, other / given)
    if _links(tree, other) or _is_unused(tree):
        _finish(tree)
    _remove_links(other)
    if _is_unused(other):
        # A new version that did not become the one that is used: the next update continues with it.
        shutil.rmtree(partial_path(tree), ignore_errors=True)
        other.replace(partial_path(tree))
    if older.is_dir():
        if other.exists():
            _delete(older)
        else:
            older.replace(other)


def is_settled(tree: Path) -> bool:
    """Return whether `settle` has nothing to do; only a few names are looked up."""
    if os.path.lexists(_swap_path(tree)) or os.path.lexists(_older_path(tree)):
        return False
    other = kept_path(tree)
    if not other.is_dir():
        return True
    links = _links(tree, other) or _links(other, other)
    return not (links or _is_unused(tree) or _is_unused(other))


def settle_if_needed(tree: Path) -> None:
    """Call `settle` unless there is nothing to do, or an installer is at work."""
    tree = tree.resolve()
    if is_settled(tree):
        return
    try:
        with locked(tree.parent):
            settle(tree)
    except BlockingIOError:
        return
    except OSError as error:
        log.warning("An interrupted update of %s cannot be completed: %s", tree, error)


def _is_unused(tree: Path) -> bool:
    return bool((_stamp(tree) or {}).get("unused"))


def _exchange_trees(tree: Path) -> None:
    """Exchange a tree and the one that is kept; that one has links to the user's entries then."""
    other = kept_path(tree)
    stamp = _stamp(tree)
    program = _program(tree, other, (stamp or {}).get("program"))
    names = [name for name in _names(tree) if name not in program]
    mounted = {Path(each.mountpoint) for each in psutil.disk_partitions(all=True)}
    for path in (tree, *(tree / name for name in names)):
        if path.resolve() in mounted and not path.is_symlink():
            raise KeptError(f"{path} is a mount point, which cannot be moved")
    if stamp is not None:
        write_stamp(tree, {**stamp, "program": sorted(program)})
    is_new = _is_unused(other)
    for name in names:
        place = other / name
        if os.path.lexists(place) and not _is_link(place, other):
            if not (is_new and name in OF_USERS):
                raise KeptError(
                    f"{tree / name} and {place} are different things of one name; move one of them"
                    " elsewhere"
                )
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()
        if not os.path.lexists(place):
            place.symlink_to(_target(other, name))
    try:
        _exchange(tree, other)
    except OSError as error:
        _remove_links(other)
        raise KeptError(f"{tree} cannot be moved ({error.strerror}); use another --path") from error


def _finish(tree: Path) -> None:
    """Give the user's data their places again, after the trees have exchanged their names."""
    other = kept_path(tree)
    for name in _links(tree, other):
        if os.path.lexists(other / name):
            _exchange(tree / name, other / name)
        else:
            (tree / name).unlink()
    _remove_links(other)
    stamp = _stamp(tree)
    if stamp is not None and stamp.pop("unused", None):
        write_stamp(tree, stamp)
    before = _stamp(other)
    if before is not None:
        with contextlib.suppress(OSError):  # a full disk
            write_stamp(other, {**before, "size": _own_size(other), "since": time.time()})


def _delete(tree: Path) -> None:
    """Delete a version that is kept no more; files that somebody has put there are not deleted."""
    program = (_stamp(tree) or {}).get("program")
    names = [name for name in program or () if isinstance(name, str)]
    # The stamp is deleted last: a deletion that is interrupted continues with it.
    for name in sorted({*names, *OF_PROGRAM} & set(_names(tree)), key=lambda name: name == "venv"):
        path = tree / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    _remove_links(tree)
    try:
        tree.rmdir()
    except OSError:
        number = 1
        while (aside := tree.with_name(f"{tree.name}-{number}")).exists():
            number += 1
        tree.replace(aside)


def _program(tree: Path, other: Path, recorded: Any) -> set[str]:
    """Return the names of the entries in a tree that belong to its version."""
    command = ["git", "-C", str(tree), "ls-tree", "-z", "--name-only", "HEAD"]
    tracked = output_of(command, 60) if (tree / ".git").exists() else None
    names = {*(recorded if isinstance(recorded, list) else ()), *(tracked or "").split("\0")}
    if not names - {""}:  # of an installer that recorded none
        names = {name for name in _names(other) if not _is_link(other / name, other)}
    return ((names - OF_USERS) | OF_PROGRAM) & set(_names(tree))


def _names(tree: Path) -> list[str]:
    try:
        return sorted(each.name for each in tree.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


# --- links


def _target(other: Path, name: str) -> str:
    return f"../{other.name}/{name}"


def _is_link(path: Path, other: Path) -> bool:
    return _leads_to(path, _target(other, path.name))


def _leads_to(path: Path, target: str) -> bool:
    try:
        return str(path.readlink()) == target
    except OSError:
        return False


def _links(tree: Path, other: Path) -> list[str]:
    """Return the names of the links in a tree that lead to the other one."""
    return [name for name in _names(tree) if _is_link(tree / name, other)]


def _remove_links(other: Path) -> None:
    """Remove links of a tree to itself."""
    for name in _links(other, other):
        (other / name).unlink()


def _exchange(one: Path, other: Path) -> None:
    if not exchange_names(one, other):
        swap = _swap_path(one)
        one.rename(swap)
        other.rename(one)
        swap.rename(other)


def _mend(one: Path, other: Path) -> None:
    """Complete or undo an exchange by renames that was interrupted."""
    swap = _swap_path(one)
    if os.path.lexists(swap):
        if not os.path.lexists(one):
            swap.rename(one)
        elif not os.path.lexists(other):
            swap.rename(other)


# --- environments


def clone(environment: Path, copy: Path) -> None:
    """Copy an environment; files that both have exist once, as far as the file system can do so.

    pip replaces files and never changes them, so the copies stay as they are.
    """

    def link(source: str, target: str) -> None:
        try:
            if Path(source).parent == environment / "bin":  # its scripts are changed
                raise OSError
            os.link(source, target, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, target)

    left_out = {Path(STAMP).name, "pyvenv.cfg"}
    shutil.copytree(
        environment,
        copy,
        symlinks=True,
        copy_function=link,
        ignore=lambda folder, names: left_out & set(names) if folder == str(environment) else (),
    )
    shutil.copy2(environment / "pyvenv.cfg", copy / "pyvenv.cfg")


def _own_size(tree: Path) -> int:
    """Return the bytes that a deletion of the tree would free."""
    size = 0
    for folder, _, files in os.walk(tree):
        for name in files:
            with contextlib.suppress(OSError):
                facts = Path(folder, name).lstat()
                size += facts.st_blocks * 512 if facts.st_nlink == 1 else 0
    return size


# --- what may not fit another version


def pack_notes(tree: Path) -> list[str]:
    """Return a sentence for each node pack whose requirements the environment does not fulfil."""
    code = (
        "import importlib.metadata as m, json;"
        "print(json.dumps([[d.metadata['Name'], d.version] for d in m.distributions()]))"
    )
    printed = output_of([str(venv_python(tree)), "-c", code], 60, *PYTHON_VARIABLES)
    try:
        rows = json.loads(printed or "")
    except ValueError:
        return []
    there: dict[str, str] = {}
    for name, version in rows:  # the first one of a name is imported
        if name and version:
            there.setdefault(normal_name(name), version)
    notes = []
    for pack in sorted((tree / "custom_nodes").glob("*/requirements.txt")):
        if pack.parent.name.startswith(".") or pack.parent.name.endswith(".disabled"):
            continue
        missing = list(_missing(read_text(pack).splitlines(), there))
        if missing:
            notes.append(
                f"The node pack {pack.parent.name} may not work with this version: its"
                f" requirements are not all installed ({', '.join(missing[:3])}"
                f"{', …' if len(missing) > 3 else ''})."
            )
    left = len(notes) - MAX_NOTES
    return [*notes[:MAX_NOTES], *([f"{left} more node packs may not work."] if left > 0 else [])]


def _missing(lines: Sequence[str], there: dict[str, str]) -> Iterator[str]:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import InvalidVersion

    for line in lines:
        text = re.split(r"(?:^|\s)#", line)[0].strip()
        try:
            wanted = Requirement(text)
            if wanted.marker is not None and not wanted.marker.evaluate():
                continue
            version = there.get(normal_name(wanted.name))
            if version is None:
                yield wanted.name
            elif not wanted.specifier.contains(version, prereleases=True):
                yield f"{wanted.name}{wanted.specifier}, {version} is installed"
        except (InvalidRequirement, InvalidVersion, ValueError):
            continue  # options of pip, addresses


def fit_database(tree: Path, database: Path) -> str | None:
    """Set a database of ComfyUI aside that a newer version has changed; return a sentence about it.

    ComfyUI keeps its index of files there, and makes a new one. A version that does not know the
    newer form does not start, or starts without the index.
    """
    revision = _revision(database)
    steps = list((tree / "alembic_db" / "versions").glob("*.py"))
    if revision is None or not steps:
        return None
    known = re.compile(r"^revision\b[^=\n]*=\s*[\"']([^\"']+)", re.MULTILINE)
    if any(revision in known.findall(read_text(step)) for step in steps):
        return None
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        lock = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        stack.callback(os.close, lock)
        lock_file(lock)  # as ComfyUI does, so that none that uses it loses it
        aside = database.with_name(f"{database.name}.{re.sub(r'[^A-Za-z0-9_-]', '_', revision)}")
        for ending in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{database}{ending}").replace(f"{aside}{ending}")
        return (
            f"ComfyUI's database was changed by a newer version, and is now {aside.name};"
            " ComfyUI makes a new one."
        )
    return None


def _revision(database: Path) -> str | None:
    import sqlite3

    if not database.is_file():
        return None
    try:
        with contextlib.closing(
            sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
        ) as opened:
            row = opened.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, ValueError):
        return None
    return row[0] if row and isinstance(row[0], str) else None


def normal_name(name: str) -> str:
    """Return the name of a Python package as names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
