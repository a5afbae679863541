"""The data from a folder's ``.git``, also from a malicious one."""

import os

import pytest

from comfydeploy_jupyter.snapshots.environment import Environment, read_checkout, read_custom_nodes
from tests.snapshots.conftest import git, write_registry_pack


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "pack"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "a.py").write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return folder


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://ada:pw@github.com/x/y.git", "https://github.com/x/y.git"),
        ("git@github.com:x/y.git", "https://github.com/x/y.git"),
        ("ssh://git@gitlab.com/x/y", "https://gitlab.com/x/y"),
        ("git@git.example.org:x/y", "git@git.example.org:x/y"),
        ("/home/ada/y", None),
        ("file:///home/ada/y", None),
        ("ext::sh -c touch% x", None),
    ],
)
def test_the_public_address_of_a_repository(checkout, url, public):
    git(checkout, "remote", "add", "upstream", "https://github.com/other/y")
    git(checkout, "remote", "add", "origin", url)
    found = read_checkout(checkout)
    assert found.repository == public
    assert found.commit == git(checkout, "rev-parse", "HEAD")


def test_changes(checkout):
    found = read_checkout(checkout)
    assert not found.modified
    (checkout / "untracked.txt").write_text("")
    assert read_checkout(checkout) == found
    (checkout / "a.py").write_text("2, and longer")
    changed = read_checkout(checkout)
    assert changed.modified


def test_work_trees_and_plain_folders(checkout, tmp_path):
    git(checkout, "remote", "add", "origin", "https://github.com/x/y")
    git(checkout, "worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    found = read_checkout(tmp_path / "tree")
    assert found.repository == "https://github.com/x/y"
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    inside = checkout / "inside"
    inside.mkdir()
    assert read_checkout(inside) is None, "the repository around it is not its own"


def test_commands_configured_in_a_repository_are_not_run(checkout, tmp_path):
    marker = tmp_path / "harm"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    script.chmod(0o755)
    (checkout / ".gitattributes").write_text("* filter=bad\n")
    (checkout / "a.py").write_text("2")  # of the same size, so that git has to look inside
    git(checkout, "config", "core.fsmonitor", str(script))
    assert read_checkout(checkout) is not None
    assert not marker.exists()
    git(checkout, "config", "--unset", "core.fsmonitor")
    git(checkout, "config", "filter.bad.clean", str(script))
    assert read_checkout(checkout) is not None
    assert not marker.exists()
    git(checkout, "status", "--porcelain")
    assert marker.exists(), "an ordinary git would have run it"


@pytest.mark.parametrize(
    "line", ['[x] [filter "bad"] clean = {script}', "[x] [include] path = {more}"]
)
def test_hidden_commands_in_a_repositorys_configuration_are_not_run(
    checkout, tmp_path, monkeypatch, line
):
    """Git accepts several headers in one line, which a parser of lines does not find."""
    marker, script, more = tmp_path / "harm", tmp_path / "script", tmp_path / "more"
    script.write_text(f"#!/bin/sh\nenv > {marker}\ncat\n")
    script.chmod(0o755)
    more.write_text(f'[filter "bad"]\nclean = {script}\n')
    (checkout / ".gitattributes").write_text("* filter=bad\n")
    (checkout / "a.py").write_text("2")
    with (checkout / ".git/config").open("a") as config:
        config.write(line.format(script=script, more=more) + "\n")
    monkeypatch.setenv("COMFY_DEPLOY_API_KEY", "secret")
    assert read_checkout(checkout) is not None
    assert not marker.exists()
    git(checkout, "status", "--porcelain")
    assert marker.exists(), "an ordinary git would have run it"


def test_a_named_pipe_in_place_of_the_git_configuration_does_not_block(checkout):
    (checkout / ".git/config").unlink()
    os.mkfifo(checkout / ".git/config")
    found = read_checkout(checkout)
    assert found.repository is None


@pytest.mark.timeout(20)
def test_a_named_pipe_in_place_of_a_packs_project_file_does_not_block(tmp_path):
    pack = tmp_path / "custom_nodes" / "pack"
    pack.parent.mkdir()
    write_registry_pack(pack)
    found = Environment()
    read_custom_nodes([pack.parent], found)
    (node,) = found.snapshot.custom_nodes
    assert (node.kind, node.id, node.version) == ("registry", "registered-pack", "1.2.3")
    (pack / ".tracking").rename(pack / "aside")
    read_custom_nodes([pack.parent], found)
    assert [node.kind for node in found.snapshot.custom_nodes] == ["files"]
    (pack / "aside").rename(pack / ".tracking")
    (pack / "pyproject.toml").unlink()
    os.mkfifo(pack / "pyproject.toml")
    read_custom_nodes([pack.parent], found)
    assert [node.kind for node in found.snapshot.custom_nodes] == ["files"]


@pytest.mark.parametrize(("noted", "id_"), [("a-pack\n", "a-pack"), ("../a b", None), ("", None)])
def test_a_clone_of_manager_has_its_id_in_the_registry(checkout, noted, id_):
    git(checkout, "remote", "add", "origin", "https://github.com/x/y")
    (checkout / ".git/.cnr-id").write_text(noted)
    found = Environment()
    read_custom_nodes([checkout.parent], found)
    (pack,) = found.snapshot.custom_nodes
    assert (pack.kind, pack.repository, pack.id) == ("git", "https://github.com/x/y", id_)
