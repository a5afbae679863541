"""``POST comfyui/back``: a ComfyUI after a bad update, and the one that the update has kept."""

import asyncio
import os
import shlex
import shutil
from types import SimpleNamespace

import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.comfyui import kept
from comfydeploy_jupyter.magics import ComfyMagics
from tests.helpers.bodies import picture
from tests.helpers.comfyui import comfyui_version
from tests.helpers.waiting import until_async


@pytest.fixture
def updated(installed_comfyui, tmp_path):
    """A folder whose ComfyUI ends while it starts, beside the one of the tests."""
    path, python = installed_comfyui
    tree = tmp_path / "ComfyUI"
    left_out = {"venv", "models", "custom_nodes", "input", "output", "user", "temp", ".git"}
    for copy in (tree, kept.kept_path(tree)):
        shutil.copytree(
            path,
            copy,
            copy_function=os.link,
            ignore=lambda folder, names: left_out & set(names) if folder == str(path) else (),
        )
        (copy / "venv" / "bin").mkdir(parents=True)
        program = copy / "venv" / "bin" / "python"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} "$@"\n')
        program.chmod(0o755)
    for folder in ("models", "custom_nodes", "input", "output"):
        (tree / folder).mkdir()
    for name, text in (
        ("main.py", "raise SystemExit('bad update')\n"),
        ("comfyui_version.py", '__version__ = "0.99.0"\n'),
    ):
        (tree / name).unlink()
        (tree / name).write_text(text)
    kept.write_stamp(tree, {"version": "v0.99.0"})
    kept.write_stamp(kept.kept_path(tree), {"version": f"v{comfyui_version()}", "size": 7})
    return tree


@pytest.fixture
def extension_config(updated, tmp_path):
    return {
        "comfyui_path": str(updated),
        "launch_args": ["--cpu", "--disable-api-nodes", "--database-url", "sqlite:///:memory:"],
        "data_dir": str(tmp_path / "data"),
    }


async def error_of(api):
    return (await api.get("check-status"))[1]["comfyui"].get("error")


async def test_a_bad_update_and_the_way_back(api, extension, updated):
    version = comfyui_version()
    pack = updated / "custom_nodes" / "pack"
    pack.mkdir()
    (pack / "requirements.txt").write_text("no-such-package\n")
    error = await until_async(lambda: error_of(api))
    assert "ended while it started" in error
    _, status = await api.get("check-status")
    assert status["comfyui"]["kept"] == {
        "version": version,
        "commit": None,
        "size": 7,
        "since": None,
    }

    # a kill after the folders have exchanged their names
    kept._exchange_trees(updated)
    assert (updated / "output").is_symlink()
    await api.post("machine/update", {"restart": True})
    assert extension.services.machines.get().connected
    assert not (updated / "output").is_symlink()

    code, reply = await api.post("comfyui/back", {"machine": "local"})
    assert (code, reply["code"]) == (503, "comfyui_unavailable")
    assert (await api.get("check-status"))[1]["comfyui"]["kept"]["version"] == version
    jupyter = extension.serverapp
    comfy = Comfy(jupyter.connection_url, jupyter.identity_provider.token)
    shell = SimpleNamespace(user_ns={"comfy": comfy})
    with kept.locked(updated.parent):
        code, reply = await api.post("comfyui/back", {})
    assert (code, reply["code"]) == (409, "conflict")
    assert "an installation" in reply["error"]
    magic = ComfyMagics(shell)
    said, note = repr(await asyncio.to_thread(magic._do, "back")).splitlines()
    assert said == f"ComfyUI {version} is used now; ComfyUI 0.99.0 is kept."
    assert "pack may not work" in note
    await api.run(picture())
    _, described = await api.get("machine")
    assert described["software"]["comfyui"]["version"] == version
    assert described["software"]["comfyui"]["kept"]["version"] == "0.99.0"
    assert not (updated / "output").is_symlink()

    shutil.rmtree(kept.kept_path(updated))
    code, reply = await api.post("comfyui/back", {})
    assert (code, reply["details"]["field"]) == (404, "machine")
    assert extension.services.machines.get().connected


class TestOptions:
    @pytest.fixture
    def extension_config(self, updated, tmp_path):
        kept.go_back(updated)
        given = ["--cpu", "--no-such-option"]
        return {
            "comfyui_path": str(updated),
            "launch_args": given,
            "data_dir": str(tmp_path / "data"),
        }

    async def test_option_of_another_version_is_told_before_the_start(self, api, updated):
        error = await until_async(lambda: error_of(api))
        assert f"({comfyui_version()}) has no option '--no-such-option'" in error
        code, reply = await api.post("comfyui/back", {})
        assert (code, reply["details"]["field"]) == (409, "machine")
        assert "launch_args of 'local'" in reply["error"]
        found = kept.kept(updated)
        assert found is not None, "nothing was changed"
        assert found.version == "0.99.0"
        if comfyui_version() == "0.3.75":
            code, reply = await api.post("machine/update", {"launch_args": ["--offline"]})
            assert code == 400
            assert "the nearest here is --disable-api-nodes" in reply["error"]


async def test_start_does_not_wait_for_the_next_automatic_restart(api, extension, updated):
    await until_async(lambda: error_of(api))
    (updated / "main.py").write_text("import time\ntime.sleep(60)\n")
    code, reply = await api.post("comfyui/start", {})
    assert (code, reply) == (200, {"success": True, "machine": "local"})

    async def state():
        return bool(extension.services.machines.get().state == "starting")

    await until_async(state)
