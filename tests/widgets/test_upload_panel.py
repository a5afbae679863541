"""UploadPanel without a page: the test sends what the page would send; the server is real."""

from __future__ import annotations

import hashlib
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter import UploadPanel
from comfydeploy_jupyter.client import Comfy
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from comfydeploy_jupyter.client import Machine
    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess
    from tests.helpers.transfer_service import Service


@pytest.fixture(scope="module")
def comfy(
    start_jupyter: Callable[..., JupyterProcess],
    comfyui: ComfyUIServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Comfy:
    """A client of a Jupyter server that knows the folders of its ComfyUI."""
    (comfyui.base_dir / "main.py").touch()
    server = start_jupyter(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.base_dir),
            "autostart": False,
            "data_dir": str(tmp_path_factory.mktemp("comfydeploy")),
        }
    )
    return Comfy(server.url, server.token)


class Page:
    """Replaces the page: sends its messages, and records those that it receives."""

    def __init__(self, panel: UploadPanel) -> None:
        self._view = panel._view
        self.received: list[dict[str, Any]] = []
        self._view.send = self.received.append

    def say(self, kind: str, *buffers: bytes, **message: Any) -> None:
        self._view._handle_custom_msg({"type": kind, **message}, list(map(memoryview, buffers)))

    def open(self, name: str, size: int, **destination: Any) -> str:
        file_id = f"page-{uuid.uuid4().hex}"
        place: dict[str, Any] = {"type": "input", "subfolder": "", "overwrite": False}
        place.update(destination)
        self.say("open", id=file_id, name=name, size=size, destination=place)
        return file_id

    def last(self, kind: str) -> dict[str, Any] | None:
        found = [message for message in self.received if message["type"] == kind]
        return found[-1] if found else None


@pytest.fixture
def panel_of(
    comfy: Comfy, opened: Callable[[UploadPanel], UploadPanel]
) -> Callable[..., UploadPanel]:
    """A function that makes a panel."""
    return lambda **kwargs: opened(UploadPanel(comfy, **kwargs))


def upload(upload_id: str, state: str, **fields: Any) -> dict[str, Any]:
    """Return an upload as a page reports it."""
    plain = {
        "id": upload_id,
        "page": upload_id.partition("-")[0],
        "name": "a.png",
        "where": "input",
        "size": 10,
        "kept": True,
        "sent": 0,
        "state": state,
        "error": None,
        "result": None,
    }
    return {**plain, **fields}


def test_the_page_gets_the_server_and_the_destination(panel_of: Callable[..., UploadPanel]) -> None:
    panel = panel_of(destination="models/loras", subfolder="mine")
    place = {"type": "models/loras", "subfolder": "mine", "overwrite": False, "machine": ""}
    assert panel.destination == place
    until(lambda: panel._view.instance)
    assert panel._view.instance == panel.comfy.status()["instance"]
    until(lambda: panel._models.loaded)
    assert panel.destination == place, "the folders that ComfyUI has change nothing"
    assert "Models: embeddings" in [label for label, _ in panel._place.options]
    assert 0 < panel._models.disk["free"] < panel._models.disk["total"]
    for offered in (panel._view.places.values(), panel._add.folder.options):
        assert any("loras" in place for place in offered)
        assert not [place for place in offered if "custom_nodes" in place]
    panel._place.value, panel._subfolder.value, panel._overwrite.value = "input", " /b/c/ ", True
    changed = {"type": "input", "subfolder": "b/c", "overwrite": True}
    assert panel.destination == {**place, **changed}


def test_a_file_arrives_through_the_kernel_in_chunks(
    panel_of: Callable[..., UploadPanel], comfyui: ComfyUIServer
) -> None:
    panel = panel_of()
    page = Page(panel)
    content = uuid.uuid4().bytes * 200_000
    name = f"{uuid.uuid4().hex}.bin"
    file_id = page.open(name, len(content), subfolder="chunks")
    until(lambda: page.last("opened"))
    for start in (1_000_000, 0, 3_000_000, 2_000_000):  # by two ways to the kernel
        page.say("chunk", content[start : start + 1_000_000], id=file_id, offset=start)
    until(lambda: page.last("end"))
    result = page.last("end")["result"]
    assert result["file_hash"] == hashlib.sha256(content).hexdigest()
    assert (comfyui.input_dir / "chunks" / name).read_bytes() == content
    stored = [message["bytes"] for message in page.received if message["type"] == "stored"]
    assert stored == [1_000_000, 2_000_000, 3_000_000, 3_200_000]
    page.say("uploads", uploads=[upload(file_id, "done", result=result)])
    assert str(panel.uploaded[0]) == f"chunks/{name}"


def test_an_empty_file_arrives_and_a_refused_one_has_its_reason(
    panel_of: Callable[..., UploadPanel], comfyui: ComfyUIServer
) -> None:
    page = Page(panel_of())
    name = f"{uuid.uuid4().hex}.txt"
    page.open(name, 0)
    until(lambda: page.last("end"))
    assert (comfyui.input_dir / name).read_bytes() == b""
    page.received.clear()
    file_id = page.open("a.png", 3, type="models/../..")
    page.say("chunk", b"abc", id=file_id, offset=0)
    until(lambda: page.last("end"))
    assert "type" in page.last("end")["error"]


def test_an_interrupted_upload_leaves_no_file(
    panel_of: Callable[..., UploadPanel], comfyui: ComfyUIServer
) -> None:
    panel = panel_of()
    page = Page(panel)
    name = f"{uuid.uuid4().hex}.bin"
    file_id = page.open(name, 3_000_000)
    page.say("chunk", bytes(1_000_000), id=file_id, offset=0)
    until(lambda: page.last("stored"))
    page.say("abort", id=file_id)
    until(lambda: not panel._chunked)
    assert page.last("end") is None
    until(lambda: not [path for path in comfyui.input_dir.rglob("*") if name in path.name])
    page.say("chunk", bytes(1_000_000), id=file_id, offset=1_000_000)
    assert panel.error == "", "chunks that arrive after the end cause no error"


def test_uploads_of_a_closed_page_are_lost_unless_it_reports_them_again(
    panel_of: Callable[..., UploadPanel],
) -> None:
    panel = panel_of()
    page = Page(panel)
    page.say("uploads", uploads=[upload("one-1", "active"), upload("two-1", "active")])
    page.say("hello")
    assert [one["state"] for one in panel.uploads] == ["lost", "lost"]
    assert page.received[-1] == {"type": "report"}
    page.say("uploads", uploads=[upload("two-1", "active", sent=5)])
    assert [(one["state"], one["kept"]) for one in panel.uploads] == [
        ("lost", False),
        ("active", True),
    ]
    page.say("cancel", id="two-1")
    assert page.received[-1] == {"type": "cancel", "id": "two-1"}, "the page that has it must do it"
    page.say("forget", ids=["one-1"])
    assert [one["id"] for one in panel.uploads] == ["two-1"]
    # The main thread of the kernel gets a message later than its subshell, if it is busy.
    page.say("forget", ids=["three-1"])
    page.say("uploads", uploads=[upload("three-1", "active")])
    assert [one["id"] for one in panel.uploads] == ["two-1"], "it stays cleared"


def test_a_model_from_a_link_is_followed_retried_and_listed(
    panel_of: Callable[..., UploadPanel], bare_service: Service, comfyui: ComfyUIServer
) -> None:
    panel = panel_of()
    until(lambda: panel._models.loaded)
    name = f"{uuid.uuid4().hex}.safetensors"
    content = bare_service.files[name] = uuid.uuid4().bytes * 1000
    bare_service.replacements["files"].append(404)
    panel._add.link.value = f"{bare_service.url}/files/{name}"
    panel._add.folder.value = "loras"
    panel.add_model()

    def mine() -> Any:
        return next((one for one in panel.transfers if one["filename"] == name), {})

    until(lambda: panel.error or mine().get("state") == "failed")
    assert panel.error == ""
    assert "404" in mine()["error"]
    assert panel._add.link.value == ""
    Page(panel).say("retry", id=mine()["id"])
    until(lambda: panel.error or mine().get("state") == "done")
    until(lambda: name in [model["name"] for model in panel.models])
    (found,) = [model for model in panel.models if model["name"] == name]
    assert (found["folder"], found["size"]) == ("loras", 16_000)
    key = f"loras/{name}"
    panel._models._handle_custom_msg({"type": "hash", "key": key}, [])
    until(lambda: len(panel._models.hashes.get(key, "")) == 64)
    assert panel._models.hashes[key] == hashlib.sha256(content).hexdigest()
    Page(panel).say("forget", ids=[mine()["id"]])
    until(lambda: mine() == {})
    assert panel.error == ""
    (comfyui.models_dir / "loras" / name).unlink()


@pytest.fixture
def second(comfy: Comfy, installed_comfyui: tuple[Path, Path], tmp_path: Path) -> Iterator[Machine]:
    """A second machine with folders of its own; its ComfyUI is never started."""
    tree, python = installed_comfyui
    (tmp_path / "models/loras").mkdir(parents=True)
    machine = comfy.machines.create(
        f"second-{uuid.uuid4().hex[:6]}",
        comfyui_path=str(tree),
        comfyui_python=str(python),
        launch_args=["--cpu", "--base-directory", str(tmp_path)],
        autostart=False,
    )
    yield machine
    machine.delete()


def test_the_machine_is_chosen_where_there_are_several(
    panel_of: Callable[..., UploadPanel], bare_service: Service, second: Machine, tmp_path: Path
) -> None:
    panel = panel_of()
    until(lambda: panel._models.loaded)
    assert panel._selector.layout.display == ""
    assert (panel.machine, panel._selector.value) == (None, "local")
    panel._selector.value = second.id
    assert panel.machine == panel.destination["machine"] == second.id
    name = f"{uuid.uuid4().hex}.safetensors"
    content = bare_service.files[name] = uuid.uuid4().bytes * 1000
    panel._add.link.value = f"{bare_service.url}/files/{name}"
    panel._add.folder.value = "loras"
    panel.add_model()
    until(lambda: panel.error or name in [model["name"] for model in panel.models])
    assert panel.error == ""
    assert (tmp_path / "models/loras" / name).read_bytes() == content
    named = panel_of(machine=second.name)
    until(lambda: named._models.loaded)
    assert named._selector.value == second.id
    assert [model["name"] for model in named.models] == [name]
    assert panel_of(choose_machine=False)._selector is None


def test_a_download_is_shown_while_comfyui_is_down_and_is_cancelled(
    panel_of: Callable[..., UploadPanel], comfy: Comfy, bare_service: Service
) -> None:
    name = f"{uuid.uuid4().hex}.safetensors"
    bare_service.replacements["files"].append("never")
    comfy.add_model(f"{bare_service.url}/files/{name}", "loras")
    panel = panel_of(machine="nowhere")

    def mine() -> list[dict[str, Any]]:
        return [one for one in panel.transfers if one["filename"] == name]

    until(mine)
    until(lambda: "nowhere" in panel.error)
    Page(panel).say("cancel", id=mine()[0]["id"])
    until(lambda: [one["state"] for one in mine()] == ["cancelled"])


def test_a_bad_link_is_reported_and_can_be_corrected(panel_of: Callable[..., UploadPanel]) -> None:
    panel = panel_of()
    panel.add_model()
    assert "Link: enter the address" in panel.error
    until(lambda: panel._models.loaded)
    panel._add.link.value = "ftp://nowhere/a.safetensors"
    panel.add_model()
    until(lambda: "url" in panel.error)
    until(lambda: not panel._add.add.disabled)
    assert panel._add.link.value == "ftp://nowhere/a.safetensors"


def test_models_are_moved_and_deleted_after_their_uses_are_shown(
    panel_of: Callable[..., UploadPanel], comfyui: ComfyUIServer
) -> None:
    panel = panel_of()
    name = f"{uuid.uuid4().hex}.safetensors"
    path = comfyui.models_dir / "loras" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    view = panel._models
    until(lambda: view.folders)
    assert {"loras", "vae"} <= set(view.folders)
    assert "custom_nodes" not in view.folders
    sent: list[dict[str, Any]] = []
    view.send = lambda message, *_: sent.append(message)

    def order(kind: str, **fields: Any) -> dict[str, Any]:
        sent.clear()
        message = {"type": kind, "folder": "loras", "name": name, **fields}
        view._handle_custom_msg(message, [])
        until(lambda: sent)
        assert sent[0]["folder"] == "loras"
        return sent[0]

    reply = order("uses")
    assert (reply["type"], reply["problem"], reply["uses"]["in_use"]) == ("uses", "", False)
    refused = order("move", to_folder="loras", to_name="a.txt")
    assert refused["type"] == "refused"
    assert "to_filename" in refused["problem"]
    done = order("move", to_folder="vae", to_name=f"new/{name}", in_use=False)
    assert (done["type"], done["text"]) == ("done", f"loras/{name} is vae/new/{name} now.")
    moved = comfyui.models_dir / "vae" / "new" / name
    assert moved.exists()
    until(lambda: any(model["name"] == f"new/{name}" for model in panel.models))
    assert order("uses")["problem"]
    sent.clear()
    message = {"type": "delete", "folder": "vae", "name": f"new/{name}", "in_use": False}
    view._handle_custom_msg(message, [])
    until(lambda: sent and sent[0]["type"] == "done")
    assert not moved.exists()
    until(lambda: all(model["name"] != f"new/{name}" for model in panel.models))


def test_a_hash_that_cannot_be_computed_is_reported(panel_of: Callable[..., UploadPanel]) -> None:
    panel = panel_of()
    panel._models._handle_custom_msg({"type": "hash", "key": "loras/none.safetensors"}, [])
    until(lambda: "none.safetensors" in panel.error)
    assert panel._models.hashes == {}


def test_its_plain_form_lists_the_files(panel_of: Callable[..., UploadPanel]) -> None:
    panel = panel_of()
    assert "connect().upload(" in panel._record.plain_text
    result = {
        "name": "a.png",
        "subfolder": "",
        "type": "input",
        "size": 10,
        "file_hash": "ab" * 32,
    }
    page = Page(panel)
    page.say("uploads", uploads=[upload("one-1", "done", name="<b>.png", result=result)])
    page.say("uploads", uploads=[upload("one-2", "failed", error="no room")])
    until(lambda: "failed: no room" in panel._record.plain_text)
    assert "ab" * 32 in panel._record.plain_text
    assert "&lt;b&gt;.png" in panel._record._html


def test_close_ends_the_threads(panel_of: Callable[..., UploadPanel]) -> None:
    panel = panel_of()
    page = Page(panel)
    file_id = page.open("never.bin", 5_000_000)
    page.say("chunk", bytes(1_000_000), id=file_id, offset=0)
    until(lambda: page.last("stored"))
    panel.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("comfydeploy")]
