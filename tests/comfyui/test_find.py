import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from aiohttp import web

from comfydeploy_jupyter.comfyui import find
from comfydeploy_jupyter.comfyui.find import Found, discover
from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from tests.helpers.comfyui import free_port
from tests.helpers.processes import REPOSITORY, git
from tests.helpers.selection import few
from tests.helpers.servers import serving


def make_tree(path, *, venv="venv"):
    (path / "comfy").mkdir(parents=True)
    (path / "main.py").write_text("")
    if venv is not None:
        python = path / venv / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to("/bin/sh")  # it is not run
    return path


@contextlib.asynccontextmanager
async def answering(body, *, status=200, delay=0.0):
    """A server on a port of 127.0.0.1 whose ``/system_stats`` answers so."""

    async def stats(_):
        await asyncio.sleep(delay)
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, status=status, content_type="application/json")

    app = web.Application()
    app.router.add_get("/system_stats", stats)
    port = free_port()
    async with serving(app, port):
        yield port


STATS = {"system": {"comfyui_version": "0.3.75"}, "devices": []}
NOT_STATS = (
    *([], {"system": {}, "devices": []}, {"system": None, "devices": []}),
    {"system": {"comfyui_version": "1"}},
)


async def test_the_order_in_which_a_comfyui_is_found(comfyui, tmp_path, monkeypatch):
    """The address, which is not checked; a running one; the folder; the first usual place."""
    monkeypatch.setenv("HOME", str(tmp_path))
    mine, usual = make_tree(tmp_path / "mine"), make_tree(tmp_path / "ComfyUI")
    (tmp_path / "empty").mkdir()
    make_tree(tmp_path / "later")
    places = [str(tmp_path / "empty"), "/no/such/place", "~/ComfyUI", str(tmp_path / "later")]
    folder = {"comfyui_path": str(mine), "places": places}
    address = "http://10.255.255.1:1"
    found = await discover(comfyui_url=f"{address}/", port=comfyui.port, **folder)
    assert found == Found("url", url=address, path=mine)
    found = await discover(port=comfyui.port, **folder)
    assert found == Found("url", url=comfyui.url, path=mine)
    found = await discover(port=free_port(), comfyui_python="/usr/bin/python3", **folder)
    assert found == Found("path", path=mine, python=Path("/usr/bin/python3"))
    found = await discover(port=free_port(), places=places)
    assert found == Found("path", path=usual, python=usual / "venv/bin/python")
    with pytest.raises(ComfyUIUnavailableError, match=r"comfyui_path: .*/nothing") as raised:
        await discover(comfyui_path=str(tmp_path / "nothing"), places=places, port=free_port())
    assert find.INSTALL_COMMAND in raised.value.extra["hint"]
    with pytest.raises(ComfyUIUnavailableError, match="No ComfyUI was found") as raised:
        await discover(places=["/no/such/place"], port=free_port())
    assert "python -m comfydeploy_jupyter.comfyui.install" in raised.value.to_reply()["hint"]


async def test_other_servers_on_the_port_are_not_comfyui(tmp_path):
    tree = make_tree(tmp_path / "ComfyUI")
    for body, status, what in (
        *((STATS, 404, "status 404"), (STATS, 302, "a redirect"), ("<html>", 200, "not JSON")),
        *((wrong, 200, "does not come from ComfyUI") for wrong in NOT_STATS),
    ):
        async with answering(body, status=status) as port:
            assert what in (await find.what_answers(f"http://127.0.0.1:{port}") or "")
            found = await discover(places=[str(tree)], port=port)
        assert found == Found("path", path=tree, python=tree / "venv/bin/python"), body
    async with answering(STATS, delay=5.0) as port:
        assert not await find.answers(f"http://127.0.0.1:{port}", timeout=0.2)

    async def garbage(reader, writer):
        await reader.readuntil(b"\r\n\r\n")  # else the connection is reset over what is unread
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(garbage, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "not HTTP" in (await find.what_answers(f"http://127.0.0.1:{port}") or "")


def test_interpreter_of_a_folder(tmp_path):
    both = make_tree(tmp_path / "a" / "both", venv=".venv")
    assert find.find_python(both) == both / ".venv/bin/python"
    beside = make_tree(tmp_path / "b" / "ComfyUI", venv=None)
    make_tree(tmp_path / "b", venv="venv")
    assert find.find_python(beside) == tmp_path / "b/venv/bin/python"


NOBODY = 65534


def cases(commands):
    return [
        pytest.param(command, id=name, marks=[pytest.mark.root] if "NOBODY" in command else [])
        for name, command in commands.items()
    ]


def plant(command, folder):
    command = command.replace("NOBODY", str(NOBODY))
    subprocess.run(["sh", "-ec", command], cwd=folder, check=True)


# What others than this user can do to a ComfyUI, in the folder around it.
PLANTED = {
    "the tree is another's": "chown NOBODY:NOBODY ComfyUI",
    "its program is another's": "chown NOBODY:NOBODY ComfyUI/main.py",
    "a part of it is another's": "chown NOBODY:NOBODY ComfyUI/comfy",
    "a pack is another's": "chown NOBODY:NOBODY ComfyUI/custom_nodes/pack",
    "its model paths are another's": "chown NOBODY:NOBODY ComfyUI/extra_model_paths.yaml",
    "the folder around it is another's": "chown NOBODY:NOBODY .",
    "all may write to it": "chmod 777 ComfyUI",
    "all may write beside it": "chmod 777 .",
    "all may write to a folder above it": "chmod 777 ..",
    "all may add files to it": "chmod 1777 ComfyUI",
    "all may add packs": "chmod 1777 ComfyUI/custom_nodes",
    "all may change packs": "chmod 777 ComfyUI/custom_nodes",
    "all may add what is run at its start": "chmod 777 ComfyUI/user",
    "all may add hooks": "chmod 777 ComfyUI/.git",
    "a group of others may write to it": "chgrp NOBODY ComfyUI; chmod 775 ComfyUI",
    "it is a link of another's": (
        "mv ComfyUI moved; ln -s moved ComfyUI; chown -h NOBODY:NOBODY ComfyUI"
    ),
    "it is a link of another's in a sticky folder": (
        "chmod 1777 .; mv ComfyUI moved; ln -s moved ComfyUI; chown -h NOBODY:NOBODY ComfyUI"
    ),
    "it is another's in a sticky folder": "chmod 1777 .; chown NOBODY:NOBODY ComfyUI",
    "it is in a folder to which all may write, within a sticky one": "chmod 1777 ..; chmod 777 .",
    "a link leads through a folder to which all may write": (
        "mv ComfyUI moved; mkdir -m 777 open; ln -s ../moved open/link; ln -s open/link ComfyUI"
    ),
}


@pytest.fixture
def other_user():
    """Another user can act on this machine: for root, a process of nobody."""
    if os.getuid() != 0:
        yield
        return
    with subprocess.Popen(["sleep", "1000"], user=NOBODY, extra_groups=()) as process:
        yield
        process.kill()


def make_tree_with_packs(path):
    tree = make_tree(path)
    for folder in ("custom_nodes/pack", "user", ".git"):
        (tree / folder).mkdir(parents=True)
    for folder in ("models", "input", "output", "temp"):
        (tree / folder).mkdir(exist_ok=True)
        (tree / folder).chmod(0o777)
    (tree / "extra_model_paths.yaml").touch()
    return tree


@pytest.mark.slow
@pytest.mark.usefixtures("other_user")
@pytest.mark.parametrize("command", cases(PLANTED))
async def test_a_tree_that_others_can_change_is_used_only_if_it_is_named(tmp_path, command):
    tree = make_tree_with_packs(tmp_path / "around" / "data" / "ComfyUI")
    places, port = [str(tree)], free_port()
    assert (await discover(places=places, port=port)).path == tree
    plant(command, tree.parent)
    with pytest.raises(ComfyUIUnavailableError, match=r"is not used: .*set comfyui_path") as raised:
        await discover(places=places, port=port)
    assert "belongs to the user nobody" in raised.value.message or "write" in raised.value.message
    later = make_tree(tmp_path / "later")
    found = await discover(places=[*places, str(later)], port=port)
    assert found.path == later
    assert found.passed_over is not None
    named = await discover(comfyui_path=str(tree), places=[], port=port)
    assert (named.path, named.python) == (tree, tree / "venv/bin/python")


@pytest.mark.usefixtures("other_user")
@pytest.mark.parametrize("linked", [False, True])
async def test_a_tree_in_a_sticky_folder_is_found(tmp_path, linked):
    """Others cannot replace it; and they cannot use what they add beside it."""
    sticky = tmp_path / "scratch"
    tree = make_tree_with_packs(sticky / "deep" / "ComfyUI")
    place = sticky / "link" if linked else tree
    if linked:
        place.symlink_to(tree)
    sticky.chmod(0o1777)
    tree.parent.chmod(0o1777)
    found = await discover(places=[str(place)], port=free_port())
    assert (found.path, found.python) == (place, place / "venv/bin/python")


# What others can do to an interpreter, by the folder of its environment.
PLANTED_PYTHON = {
    "its folder is another's": "chown NOBODY:NOBODY bin",
    "its environment is another's": "chown NOBODY:NOBODY .",
    "others may add a configuration": "chmod 1777 .",
    "others may add a configuration beside it": "chmod 1777 bin",
    "others may add packages": "chmod 1777 lib/python3.12/site-packages",
    "others may add a library": "chmod 1777 lib",
    "others may add modules": "chmod 1777 lib/python3.12",
    "others may add a configuration of the linked one": "chmod 1777 ../base",
    "others may add libraries beside the linked one": "chmod 1777 ../base/bin",
}


@pytest.mark.usefixtures("other_user")
@pytest.mark.parametrize("command", cases(PLANTED_PYTHON))
async def test_an_interpreter_that_others_can_change_is_used_only_if_its_folder_is_named(
    tmp_path, command
):
    tree = make_tree(tmp_path / "data" / "ComfyUI")
    make_tree(tmp_path / "data", venv="venv")
    for folder in (tree, tree.parent):
        base = folder / "base" / "bin" / "python3"
        base.parent.mkdir(parents=True)
        base.touch(0o755)
        python = folder / "venv/bin/python"
        python.unlink()
        python.symlink_to(base)
        (folder / "venv/lib/python3.12/site-packages").mkdir(parents=True)
    own, beside = tree / "venv/bin/python", tree.parent / "venv/bin/python"
    assert find.find_python(tree, by_chance=True) == own
    plant(command, tree / "venv")
    assert find.find_python(tree) == own, "its folder was named"
    assert find.find_python(tree, by_chance=True) == beside
    plant(command, tree.parent / "venv")
    assert find.find_python(tree, by_chance=True) not in {own, beside}
    sentences = find.refused_pythons(tree)
    assert [sentence.partition(" ")[0] for sentence in sentences] == [str(own), str(beside)]
    for sentence in sentences:
        assert "user nobody" in sentence or "may write to" in sentence
        assert "set comfyui_python to use it" in sentence


def test_an_environment_without_an_interpreter_is_told(tmp_path):
    tree = make_tree(tmp_path / "ComfyUI", venv=None)
    (tree / ".venv").mkdir()
    [sentence] = find.refused_pythons(tree)
    assert sentence.startswith(f"{tree}/.venv/bin/python is not used: it is missing or cannot be")


# A container with its own processes and list of users, in which PREPARE is run.
CONTAINER = r"""
set -eu
mount -t proc proc /proc
cd "$FOLDER"
printf 'root:x:0:0::/root:/bin/bash\nsync:x:4:9::/:/bin/sync\n' >passwd
echo www:x:33:33::/:/sbin/nologin >>passwd
printf '# a comment\npasswd: files systemd\ngroup: ldap\n' >nsswitch.conf
mount --bind passwd /etc/passwd
mount --bind nsswitch.conf /etc/nsswitch.conf
eval "$PREPARE"
cd "$REPOSITORY"
exec $RUN "$PYTHON" -c '
import sys
from pathlib import Path
from comfydeploy_jupyter.comfyui.find import objection_to_tree
print(objection_to_tree(Path(sys.argv[1])))
' "$FOLDER/open/ComfyUI"
"""
AS_USER = "setpriv --reuid 1000 --clear-groups"
PREPARED = {
    "nobody else": ("", "", True),
    "a user with a shell": ("echo me:x:1000:1000::/:/bin/bash >>passwd", "", False),
    "a user with the default shell": ("echo me:x:1000:1000::/: >>passwd", "", False),
    "users of a network": ("echo passwd: files sss >nsswitch.conf", "", False),
    "users of unknown sources": ("echo group: files >nsswitch.conf", "", False),
    "a process of a user": ("setpriv --reuid 33 --clear-groups sleep 60 & sleep 0.3", "", False),
    "a process that can become a user": ("setpriv --euid 33 sleep 60 & sleep 0.3", "", False),
    "processes that are hidden": ("mount -o remount,hidepid=2 /proc", "", False),
    "processes that cannot be seen": ("mount -t tmpfs tmpfs /proc", "", False),
    "user ids of its own": ("", "unshare --map-root-user", False),
    "an ordinary user": ("", AS_USER, False),
    "a tree of a user": ("chown 33 open/ComfyUI", "", False),
}


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(sys.platform != "linux", reason="makes a container of Linux")
@pytest.mark.parametrize("case", few([*PREPARED]))
def test_a_folder_to_which_all_may_write_is_safe_where_nobody_else_can_act(tmp_path, case):
    prepare, by, found = PREPARED[case]
    with tempfile.TemporaryDirectory() as folder:  # where an ordinary user may enter
        Path(folder).chmod(0o755)
        make_tree(Path(folder) / "open" / "ComfyUI")
        (Path(folder) / "open").chmod(0o777)
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER],
            env={
                **os.environ,
                "FOLDER": folder,
                "PREPARE": prepare,
                "REPOSITORY": str(REPOSITORY),
                "RUN": by,
                "PYTHON": sys.executable,
            },
            capture_output=True,
            text=True,
        )
    assert (done.stdout == "None\n") is found, done.stderr
    assert found or "may write to" in done.stdout or "belongs to" in done.stdout, done.stderr


def test_folders_writable_by_the_users_own_group_are_accepted(tmp_path):
    tree = make_tree(tmp_path / "ComfyUI")
    for folder in (tree, tree / "comfy"):
        folder.chmod(0o775)
    assert find.objection_to_tree(tree) is None
    (tree / "circle").symlink_to("circle")
    assert "too many links" in str(find.objection_to_tree(tree))


def test_running_interpreter_counts_only_with_torch(tmp_path):
    tree = make_tree(tmp_path / "ComfyUI", venv=None)
    script = (
        "import sys; from pathlib import Path\n"
        "from comfydeploy_jupyter.comfyui.find import find_python\n"
        "print(find_python(Path(sys.argv[1]))); assert 'torch' not in sys.modules\n"
    )
    (tmp_path / "site" / "torch").mkdir(parents=True)
    (tmp_path / "site" / "torch" / "__init__.py").write_text("raise SystemExit('imported')")

    def run(path):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tree)],
            env={"PYTHONPATH": f"{Path(__file__).parents[2]}:{path}"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert run("") == "None"
    assert run(str(tmp_path / "site")) == sys.executable


def test_version_and_commit_of_a_git_checkout(tmp_path, installed_comfyui):
    tree = make_tree(tmp_path / "ComfyUI", venv=None)
    assert find.installed_version(tree) == (None, None)
    (tree / "comfyui_version.py").write_text('# made by a tool\n__version__ = "0.3.75"\n')

    git(tree, "init", "-q", "-b", "topic/one")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "first")
    commit = git(tree, "rev-parse", "HEAD")
    assert find.installed_version(tree) == ("0.3.75", commit)
    git(tree, "pack-refs", "--all")
    assert find.installed_version(tree) == ("0.3.75", commit)
    git(tree, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    assert find.installed_version(tmp_path / "linked") == ("0.3.75", commit)
    git(tree, "checkout", "-q", "--detach")
    assert find.installed_version(tree) == ("0.3.75", commit)
    assert (find.installed_version(installed_comfyui[0])[0] or "")[0].isdecimal()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other signs of a GPU")
def test_gpu_is_seen_through_nvidia_smi_and_hidden_by_the_environment(tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: Some GPU (UUID: GPU-1)'\n")
    program.chmod(0o755)
    assert find.has_gpu({"PATH": str(tmp_path)})
    for hidden in ("", "-1"):
        assert not find.has_gpu({"PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": hidden})
    program.write_text("#!/bin/sh\necho 'GPU 0: Lost GPU (UUID: GPU-1)'\nexit 9\n")
    assert find.has_gpu({"PATH": str(tmp_path)}) == find.has_gpu({"PATH": ""})


@pytest.mark.parametrize(
    ("version_file", "accelerated"),
    [
        ("__version__ = '2.9.1+cu128'\ncuda: Optional[str] = '12.8'\nhip = None\n", True),
        ("__version__ = '2.9.1+rocm6'\ncuda: Optional[str] = None\nhip = '6.4'\n", True),
        ("__version__ = '2.9.1+cpu'\ncuda: Optional[str] = None\nhip = None\n", False),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every torch is accelerated")
def test_torch_of_an_interpreter_is_read_not_imported(
    tmp_path, monkeypatch, version_file, accelerated
):
    assert find.torch_build("/no/such/python") is None
    torch = tmp_path / "torch"
    torch.mkdir()
    (torch / "__init__.py").write_text("raise SystemExit('imported')")
    (torch / "version.py").write_text(version_file)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    build = find.torch_build(sys.executable)
    assert (build.accelerated, build.site) == (accelerated, tmp_path)
    assert build.version.startswith("2.9.1+")
