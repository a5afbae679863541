"""Two versions of ComfyUI in one place, and processes that are killed at each line."""

import errno
import json
import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing

import pytest

from comfydeploy_jupyter.comfyui import kept

PROGRAM = ("main.py", "comfy", "venv")


def make_version(tree, version, **also):
    """Make a small ComfyUI whose environment and program name its version."""
    (tree / "comfy").mkdir(parents=True)
    (tree / "comfy" / "code.py").write_text(version)
    (tree / "main.py").write_text(version)
    (tree / "venv" / "bin").mkdir(parents=True)
    (tree / "venv" / "bin" / "python").symlink_to(sys.executable)
    (tree / "venv" / "packages").write_text(version)
    (tree / f"only-{version}").write_text("")
    (tree / "models").mkdir()
    (tree / "custom_nodes").mkdir()
    program = ["main.py", "comfy", f"only-{version}"]
    kept.write_stamp(tree, {"version": f"v{version}", "program": program, **also})


@pytest.fixture
def tree(tmp_path):
    """A ComfyUI 1 with data of its user."""
    tree = tmp_path / "ComfyUI"
    make_version(tree, "1")
    (tree / "models" / "mine.safetensors").write_text("precious")
    (tree / "custom_nodes" / "pack").mkdir()
    (tree / "extra_model_paths.yaml").write_text("mine: {}")
    (tree / "output").symlink_to("../elsewhere")
    return tree


def update(tree, version):
    make_version(kept.partial_path(tree), version)
    kept.replace(tree, kept.partial_path(tree))


def check(tree, version):
    """Check that a version is used, with the data of the user."""
    assert {
        (tree / name).read_text() for name in ("main.py", "comfy/code.py", "venv/packages")
    } == {version}
    stamp = kept.read_stamp(tree)
    assert stamp["version"] == f"v{version}"
    assert (tree / "models" / "mine.safetensors").read_text() == "precious"
    assert (tree / "custom_nodes" / "pack").is_dir()
    assert (tree / "extra_model_paths.yaml").read_text() == "mine: {}"
    assert os.path.lexists(tree / "output")


def check_settled(tree, version, other):
    """Check the same after `settle`: the data are there themselves, and which version is kept."""
    check(tree, version)
    assert kept.is_settled(tree)
    assert not (tree / "models").is_symlink()
    assert str((tree / "output").readlink()) == "../elsewhere"
    own = {"main.py", "comfy", "venv", f"only-{version}"}
    own |= {"models", "custom_nodes", "extra_model_paths.yaml", "output"}
    assert {each.name for each in tree.iterdir()} == own
    found = kept.kept(tree)
    assert (None if found is None else found.version) == other
    if other is not None:
        assert {each.name for each in kept.kept_path(tree).iterdir()} == {
            *("main.py", "comfy", "venv", f"only-{other}")
        }
    names = {each.name for each in tree.parent.iterdir()} - {"ComfyUI.partial"}
    assert names <= {"ComfyUI", "ComfyUI.kept"}


def test_link_to_a_folder_elsewhere_stays(tree, tmp_path_factory):
    update(tree, "2")
    link = tmp_path_factory.mktemp("home") / "ComfyUI"
    link.symlink_to(tree)
    found = kept.kept(link)
    assert found.version == "1"
    kept.go_back(link)
    check(link, "1")
    check_settled(tree, "1", "2")
    assert link.readlink() == tree
    kept._exchange_trees(tree)
    kept.settle_if_needed(link)
    check_settled(tree, "2", "1")
    assert [each.name for each in link.parent.iterdir()] == ["ComfyUI"]


def test_nothing_is_kept(tree):
    with pytest.raises(kept.KeptError, match="no earlier version is kept"):
        kept.go_back(tree)
    check(tree, "1")


def test_files_that_somebody_has_put_into_the_kept_version_stay(tree):
    update(tree, "2")
    (kept.kept_path(tree) / "thesis.txt").write_text("precious")
    update(tree, "3")
    assert (tree.parent / "ComfyUI.older-1" / "thesis.txt").read_text() == "precious"
    assert [each.name for each in (tree.parent / "ComfyUI.older-1").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["models", "only-1"])
def test_what_is_in_the_way_is_not_replaced(tree, name):
    """A folder of data in the kept version, and a file of the user with a name of its program."""
    update(tree, "2")
    if name == "models":
        (kept.kept_path(tree) / name).mkdir()
    else:
        (tree / name).write_text("mine")
    with pytest.raises(kept.KeptError, match="different things of one name"):
        kept.go_back(tree)
    check(tree, "2")


def test_another_installer_is_left_alone(tree):
    update(tree, "2")
    with kept.locked(tree.parent), pytest.raises(BlockingIOError), kept.locked(tree.parent):
        pass
    kept.write_stamp(kept.kept_path(tree), {"version": "v1", "unused": True})
    with kept.locked(tree.parent):
        kept.settle_if_needed(tree)
    assert kept.kept_path(tree).exists()
    kept.settle_if_needed(tree)
    assert not kept.kept_path(tree).exists()


def killed_at(line, act):
    """Do something in a process that is killed at a line of `kept`; return whether it was."""
    process = os.fork()
    if process:
        _, status = os.waitpid(process, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)
    left = line

    def trace(frame, event, _):
        nonlocal left
        if frame.f_code.co_filename != kept.__file__:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    try:
        act()
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "renames"])
@pytest.mark.parametrize("what", ["first update", "later update", "back"])
def test_killed_at_any_line_one_version_works(tree, tmp_path, monkeypatch, what, exchanges):
    if not exchanges:
        monkeypatch.setattr(kept, "exchange_names", lambda *_: False)
    monkeypatch.setattr(kept, "pack_notes", lambda _: [])
    if what != "first update":
        update(tree, "2")
    used, other = {"first update": ("1", None)}.get(what, ("2", "1"))
    new = {"first update": "2", "later update": "3", "back": "1"}[what]
    saved, line, begun = tmp_path / "saved", 0, tmp_path / "work"
    begun.mkdir()
    tree.rename(begun / tree.name)
    if kept.kept_path(tree).exists():
        kept.kept_path(tree).rename(begun / kept.kept_path(tree).name)
    begun.rename(saved)
    tree = begun / tree.name
    seen = set()
    while True:
        line += 1
        copy_tree(saved, begun)
        if what != "back":
            make_version(kept.partial_path(tree), new)

        def act():
            if what == "back":
                kept.go_back(tree)
            else:
                kept.replace(tree, kept.partial_path(tree))

        killed = killed_at(line, act)
        if exchanges:
            stamp = kept.read_stamp(tree)
            check(tree, stamp["version"].removeprefix("v"))
        kept.settle_if_needed(tree)
        stamp = kept.read_stamp(tree)
        assert stamp is not None, f"line {line}"
        now = stamp["version"].removeprefix("v")
        seen.add(now)
        check_settled(tree, now, used if now == new else other)
        if now == used and what != "back":
            assert kept.read_stamp(kept.partial_path(tree)), "the next update continues"
        if not killed:
            assert now == new
            break
    assert seen == {used, new}


def copy_tree(source, target):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)


def test_folder_that_cannot_be_moved(tree, monkeypatch):
    """A folder in a lower layer of a container, for example."""

    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(kept, "exchange_names", refuse)
    make_version(kept.partial_path(tree), "2")
    with pytest.raises(kept.KeptError, match="cannot be moved"):
        kept.replace(tree, kept.partial_path(tree))
    check_settled(tree, "1", None)


def test_environment_shares_unchanged_files(tree):
    environment = tree / "venv"
    (environment / "pyvenv.cfg").write_text(f"home = {environment}")
    (environment / "bin" / "tool").write_text("#!python")
    (environment / "big").write_bytes(b"0" * 100_000)
    copy = tree.parent / "copy"
    kept.clone(environment, copy)
    assert (copy / "big").samefile(environment / "big")
    assert not (copy / "bin" / "tool").samefile(environment / "bin" / "tool")
    assert (copy / "bin" / "python").is_symlink()
    assert not (copy / "comfydeploy-install.json").exists()
    update(tree, "2")
    size = kept.kept(tree).size
    assert 0 < size < 100_000, "only what a deletion would free"
    assert json.loads((kept.kept_path(tree) / kept.STAMP).read_text())["size"] == size


def test_packs_whose_requirements_do_not_fit_are_named(tree):
    def pack(name, text):
        (tree / "custom_nodes" / name).mkdir()
        (tree / "custom_nodes" / name / "requirements.txt").write_text(text)

    pack("fits", "# comment\npytest>=1  # one\n-r other.txt\nhttps://example.com/a.whl\n")
    pack("lacks", "no-such-package-1\npytest<1\n")
    pack("off.disabled", "no-such-package-2\n")
    pack("other_system", "no-such-package-3; sys_platform == 'win32'\n")
    (note,) = kept.pack_notes(tree)
    assert "lacks" in note
    assert "no-such-package-1" in note
    assert "pytest<1" in note


def test_database_of_a_newer_version_is_set_aside(tree):
    steps = tree / "alembic_db" / "versions"
    steps.mkdir(parents=True)
    (steps / "0001_one.py").write_text('revision = "0001_one"\ndown_revision = None\n')
    database = tree / "user" / "comfyui.db"
    database.parent.mkdir()
    assert kept.fit_database(tree, database) is None

    def write(revision):
        with closing(sqlite3.connect(database)) as opened, opened:
            opened.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
            opened.execute("DELETE FROM alembic_version")
            opened.execute("INSERT INTO alembic_version VALUES (?)", (revision,))

    write("0001_one")
    assert kept.fit_database(tree, database) is None
    write("0009_new")
    lock = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT)
    kept.lock_file(lock)
    assert kept.fit_database(tree, database) is None, "a ComfyUI uses it"
    os.close(lock)
    assert "comfyui.db.0009_new" in (kept.fit_database(tree, database) or "")
    assert not database.exists()
    assert (database.parent / "comfyui.db.0009_new").exists()
    database.write_text("no database")
    assert kept.fit_database(tree, database) is None
