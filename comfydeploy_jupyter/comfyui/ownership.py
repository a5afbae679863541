"""Whether what lies at a path was put there by this user or root, and nobody else can change it.

Everything here touches the disk: call it in a thread.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..posix import user_name

MOST_LINKS = 40  # that are followed for one path, as Linux does
# Folders of a ComfyUI with data alone. What is in others may be run: ComfyUI-Manager keeps scripts
# in `user` that it runs when ComfyUI starts, and hooks of a repository are run by git.
_DATA = frozenset({"models", "input", "output", "temp"})


def objection(path: Path) -> str | None:
    """Return who else could have put, or could change, what is at a path; None if nobody.

    Each folder on the way, links included, must belong to this user or to root, and nobody else may
    write to it. A folder like ``/tmp``, where everybody may make files, counts as one that others
    write to: what is missing in it today is there tomorrow.

    Raises
    ------
    OSError
        If it cannot be looked at.
    """
    here = Path("/")
    waiting = list(reversed(Path(os.path.abspath(path)).parts[1:]))  # noqa: PTH100 - links stay
    links = 0
    found = _objection(here)
    while waiting and found is None:
        name = waiting.pop()
        here = here.parent if name == ".." else here / name
        if here.is_symlink():
            links += 1
            if links > MOST_LINKS:
                return f"{path} leads through too many links"
            target = here.readlink()
            found = _foreign_owner(here, here.lstat().st_uid)
            here = Path("/") if target.is_absolute() else here.parent
            waiting += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        else:
            found = _objection(here)
    return found


def objection_to_tree(tree: Path) -> str | None:
    """Return the `objection` to a ComfyUI's folder, program or custom nodes.

    Raises
    ------
    OSError
        If it cannot be looked at.
    """
    found = objection(tree)
    packs = tree / "custom_nodes"
    for folder in (tree, packs):
        entries = sorted(folder.iterdir()) if found is None and folder.is_dir() else []
        for entry in entries:
            if found is None and not (folder == tree and entry.name in _DATA):
                found = objection(entry)
    return found


def objection_to_python(python: Path) -> str | None:
    """Return the `objection` to an interpreter or its environment.

    Raises
    ------
    OSError
        If it cannot be looked at.
    """
    environment = python.parent.parent
    parts = [
        python,
        *environment.glob("pyvenv.cfg"),
        *environment.glob("lib/python*/site-packages"),
    ]
    return next(filter(None, map(objection, parts)), None)


def _objection(path: Path) -> str | None:
    facts = path.lstat()
    found = _foreign_owner(path, facts.st_uid)
    if found is None and facts.st_mode & stat.S_IWOTH:
        return f"all users of this machine may write to {path}"
    if found is None and facts.st_mode & stat.S_IWGRP and _has_others(path, facts.st_gid):
        return f"other users of this machine may write to {path}"
    return found


def _foreign_owner(path: Path, uid: int) -> str | None:
    if uid in (os.getuid(), 0):
        return None
    return f"{path} belongs to the user {user_name(uid) or uid}"


def _has_others(path: Path, gid: int) -> bool:
    """Return whether a group has others in it than this user and root, or named users may write."""
    if hasattr(os, "listxattr") and "system.posix_acl_access" in os.listxattr(path):
        return True  # the rights of the group stand for those of the named users, too
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
