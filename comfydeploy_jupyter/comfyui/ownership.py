"""Check that only this user and root can have created, or can change, the files at a path.

All functions in this module read the disk: call them in a thread.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..posix import user_name

MOST_LINKS = 40  # links that are followed in one path, as on Linux
# Folders of a ComfyUI with data only. Files in other folders may be executed: ComfyUI-Manager runs
# scripts in `user` when ComfyUI starts, and git runs the hooks of a repository.
_DATA = frozenset({"models", "input", "output", "temp"})


def objection(path: Path) -> str | None:
    """Return who else could have created, or can change, the files at a path; None if nobody.

    Each folder of the path, links included, must belong to this user or to root, and must not be
    writable by others. A folder like ``/tmp``, in which all users may create files, counts as
    writable by others: a file that is missing now may be created later.

    Raises
    ------
    OSError
        If the path cannot be read.
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
                return f"{path} contains too many links"
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
        If the path cannot be read.
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
        If the path cannot be read.
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
