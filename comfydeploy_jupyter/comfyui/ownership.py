"""Check that only this user and root can have created, or can change, the files at a path.

All functions in this module read the disk: call them in a thread.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ..util.posix import user_name

MOST_LINKS = 40  # links that are followed in one path, as on Linux
# Folders of a ComfyUI with data only. Files in other folders may be executed: ComfyUI-Manager runs
# scripts in `user` when ComfyUI starts, and git runs the hooks of a repository.
_DATA = frozenset({"models", "input", "output", "temp"})
_ALL_USERS = ["0", "0", str(2**32 - 1)]  # the user ids of a system without user namespaces
_NO_SHELLS = frozenset({"nologin", "false", "sync", "shutdown", "halt"})


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
            if links > MOST_LINKS:
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
