from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from comfydeploy_jupyter.comfyui import discovery, ownership
from comfydeploy_jupyter.comfyui.discovery import Found, discover
from comfydeploy_jupyter.errors import ComfyUIUnavailableError
from tests.comfyui_server import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.comfyui_server import ComfyUIServer


def make_tree(path: Path, *, venv: str | None = "venv") -> Path:
    (path / "comfy").mkdir(parents=True)
    (path / "main.py").write_text("")
    if venv is not None:
        python = path / venv / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
    return path


@contextlib.asynccontextmanager
async def answering(body: Any, *, status: int = 200, delay: float = 0.0) -> AsyncIterator[int]:
    """A server on a port of 127.0.0.1 whose ``/system_stats`` answers so."""

    async def stats(_: web.Request) -> web.Response:
        await asyncio.sleep(delay)
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, status=status, content_type="application/json")

    app = web.Application()
    app.router.add_get("/system_stats", stats)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


@pytest.fixture
def own() -> Iterator[Path]:
    """A folder that nobody but this user can change, unlike those below ``/tmp``."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as name:
        yield Path(name)


STATS = {"system": {"comfyui_version": "0.3.75"}, "devices": []}


async def test_the_configured_address_has_priority_and_is_not_checked(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "ComfyUI")
    async with answering(STATS) as port:
        found = await discover(
            comfyui_url="http://10.255.255.1:1/", comfyui_path=str(tree), places=[], port=port
        )
    assert found == Found("url", url="http://10.255.255.1:1", path=tree)


async def test_a_running_comfyui_has_priority_over_the_configured_folder(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "ComfyUI")
    async with answering(STATS) as port:
        found = await discover(comfyui_path=str(tree), port=port)
    assert found == Found("url", url=f"http://127.0.0.1:{port}", path=tree)


async def test_real_comfyui_is_recognised(comfyui: ComfyUIServer) -> None:
    assert await discover(port=comfyui.port) == Found("url", url=comfyui.url)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (STATS, 404),
        (STATS, 302),
        ("<html>", 200),
        ([], 200),
        ({"system": {}, "devices": []}, 200),
        ({"system": {"comfyui_version": "1"}}, 200),
        ({"system": None, "devices": []}, 200),
    ],
)
async def test_other_servers_on_the_port_are_not_comfyui(own: Path, body: Any, status: int) -> None:
    tree = make_tree(own / "ComfyUI")
    async with answering(body, status=status) as port:
        found = await discover(places=[str(tree)], port=port)
    assert found == Found("path", path=tree, python=tree / "venv/bin/python")


async def test_a_server_that_does_not_reply_in_time_is_skipped() -> None:
    async with answering(STATS, delay=5.0) as port:
        assert not await discovery.answers(f"http://127.0.0.1:{port}", timeout=0.2)


async def test_configured_folder_comes_before_the_usual_places(own: Path) -> None:
    mine, usual = make_tree(own / "mine"), make_tree(own / "usual")
    settings: dict[str, Any] = {"places": [str(usual)], "port": free_port()}
    assert (await discover(comfyui_path=str(mine), **settings)).path == mine
    assert (await discover(**settings)).path == usual


async def test_a_configured_folder_without_comfyui_is_an_error(
    tmp_path: Path,
) -> None:
    usual = make_tree(tmp_path / "usual")
    with pytest.raises(ComfyUIUnavailableError, match=r"comfyui_path: .*/nothing") as raised:
        await discover(
            comfyui_path=str(tmp_path / "nothing"), places=[str(usual)], port=free_port()
        )
    assert discovery.INSTALL_COMMAND in raised.value.extra["hint"]


async def test_first_of_the_usual_places_with_a_comfyui(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(own))
    (own / "empty").mkdir()
    tree = make_tree(own / "ComfyUI")
    make_tree(own / "later")
    places = [str(own / "empty"), "/no/such/place", "~/ComfyUI", str(own / "later")]
    found = await discover(places=places, port=free_port())
    assert (found.path, found.python, found.passed_over) == (tree, tree / "venv/bin/python", None)


async def test_without_a_comfyui_the_error_names_the_install_command() -> None:
    with pytest.raises(ComfyUIUnavailableError, match="No ComfyUI was found") as raised:
        await discover(places=["/no/such/place"], port=free_port())
    assert "python -m comfydeploy_jupyter.comfyui.install" in raised.value.to_reply()["hint"]


async def test_the_configured_interpreter_has_priority(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "ComfyUI")
    found = await discover(
        comfyui_path=str(tree), comfyui_python="/usr/bin/python3", port=free_port()
    )
    assert found.python == Path("/usr/bin/python3")


def test_interpreter_of_a_folder(own: Path) -> None:
    both = make_tree(own / "a" / "both", venv=".venv")
    assert discovery.find_python(both) == both / ".venv/bin/python"
    beside = make_tree(own / "b" / "ComfyUI", venv=None)
    make_tree(own / "b", venv="venv")
    assert discovery.find_python(beside) == own / "b/venv/bin/python"


# What others than this user can do to a ComfyUI, and what is said of it.
PLANTED: dict[str, Any] = {
    "the tree is another's": lambda tree: os.chown(tree, 65534, 65534),
    "its program is another's": lambda tree: os.chown(tree / "main.py", 65534, 65534),
    "a part of it is another's": lambda tree: os.chown(tree / "comfy", 65534, 65534),
    "a pack is another's": lambda tree: os.chown(tree / "custom_nodes/pack", 65534, 65534),
    "its model paths are another's": lambda tree: os.chown(
        tree / "extra_model_paths.yaml", 65534, 65534
    ),
    "all may write to it": lambda tree: tree.chmod(0o777),
    "all may write beside it": lambda tree: tree.parent.chmod(0o777),
    "all may make files beside it": lambda tree: tree.parent.chmod(0o1777),
    "all may add packs": lambda tree: (tree / "custom_nodes").chmod(0o777),
    "all may add what is run at its start": lambda tree: (tree / "user").chmod(0o777),
    "all may add hooks": lambda tree: (tree / ".git").chmod(0o777),
    "a group of others may write to it": lambda tree: (
        os.chown(tree, -1, 65534),
        tree.chmod(0o775),
    ),
    "it is a link of another's": lambda tree: (
        tree.rename(tree.parent / "moved"),
        tree.symlink_to("moved"),
        os.chown(tree, 65534, 65534, follow_symlinks=False),
    ),
}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")
@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
async def test_a_tree_that_others_can_change_is_used_only_if_it_is_named(
    own: Path, plant: Callable[[Path], object]
) -> None:
    tree = make_tree(own / "data" / "ComfyUI")
    for folder in ("custom_nodes/pack", "user", ".git"):
        (tree / folder).mkdir(parents=True)
    for folder in ("models", "input", "output", "temp"):
        (tree / folder).mkdir(exist_ok=True)
        (tree / folder).chmod(0o777)
    (tree / "extra_model_paths.yaml").touch()
    places, port = [str(tree)], free_port()
    assert (await discover(places=places, port=port)).path == tree
    plant(tree)
    with pytest.raises(ComfyUIUnavailableError, match=r"is not used: .*set comfyui_path") as raised:
        await discover(places=places, port=port)
    assert "belongs to the user nobody" in raised.value.message or "write" in raised.value.message
    later = make_tree(own / "later")
    found = await discover(places=[*places, str(later)], port=port)
    assert found.path == later
    assert found.passed_over is not None
    named = await discover(comfyui_path=str(tree), places=[], port=port)
    assert (named.path, named.python) == (tree, tree / "venv/bin/python")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")
def test_an_interpreter_that_others_can_change_is_not_found(own: Path) -> None:
    tree = make_tree(own / "ComfyUI", venv="venv")
    make_tree(own, venv="venv")
    os.chown(tree / "venv/bin", 65534, 65534)
    assert discovery.find_python(tree) == tree / "venv/bin/python", "its folder was named"
    assert discovery.find_python(tree, by_chance=True) == own / "venv/bin/python"
    os.chown(own / "venv", 65534, 65534)
    assert discovery.find_python(tree, by_chance=True) not in {
        tree / "venv/bin/python",
        own / "venv/bin/python",
    }


def test_folders_writable_by_the_users_own_group_are_accepted(own: Path) -> None:
    tree = make_tree(own / "ComfyUI")
    for folder in (tree, tree / "comfy"):
        folder.chmod(0o775)
    assert ownership.objection_to_tree(tree) is None
    (tree / "circle").symlink_to("circle")
    assert "too many links" in str(ownership.objection_to_tree(tree))


def test_running_interpreter_counts_only_with_torch(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "ComfyUI", venv=None)
    script = (
        "import sys; from pathlib import Path\n"
        "from comfydeploy_jupyter.comfyui.discovery import find_python\n"
        "print(find_python(Path(sys.argv[1]))); assert 'torch' not in sys.modules\n"
    )
    (tmp_path / "site" / "torch").mkdir(parents=True)
    (tmp_path / "site" / "torch" / "__init__.py").write_text("raise SystemExit('imported')")

    def run(path: str) -> str:
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


def test_version_and_commit_of_a_git_checkout(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "ComfyUI", venv=None)
    assert discovery.installed_version(tree) == (None, None)
    (tree / "comfyui_version.py").write_text('# made by a tool\n__version__ = "0.3.75"\n')

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=tree, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q", "-b", "topic/one")
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert discovery.installed_version(tree) == ("0.3.75", commit)
    git("pack-refs", "--all")
    assert discovery.installed_version(tree) == ("0.3.75", commit)
    git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    assert discovery.installed_version(tmp_path / "linked") == ("0.3.75", commit)
    git("checkout", "-q", "--detach")
    assert discovery.installed_version(tree) == ("0.3.75", commit)


def test_version_of_the_real_comfyui(installed_comfyui: tuple[Path, Path]) -> None:
    version, _ = discovery.installed_version(installed_comfyui[0])
    assert version
    assert version[0].isdecimal()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other signs of a GPU")
def test_gpu_is_seen_through_nvidia_smi_and_hidden_by_the_environment(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: Some GPU (UUID: GPU-1)'\n")
    program.chmod(0o755)
    assert discovery.has_gpu({"PATH": str(tmp_path)})
    for hidden in ("", "-1"):
        assert not discovery.has_gpu({"PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": hidden})
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert discovery.has_gpu({"PATH": str(tmp_path)}) == discovery.has_gpu({"PATH": ""})


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version_file: str, accelerated: bool
) -> None:
    assert discovery.torch_build("/no/such/python") is None
    torch = tmp_path / "torch"
    torch.mkdir()
    (torch / "__init__.py").write_text("raise SystemExit('imported')")
    (torch / "version.py").write_text(version_file)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    build = discovery.torch_build(sys.executable)
    assert build is not None
    assert (build.accelerated, build.site) == (accelerated, tmp_path)
    assert build.version.startswith("2.9.1+")
