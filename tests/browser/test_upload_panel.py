"""UploadPanel as users see it."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.browser.looks import Looks, connected
from tests.helpers.graphs import node

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Locator, Page

    from comfydeploy_jupyter.client import Comfy
    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess
    from tests.helpers.transfer_service import Service

pytestmark = pytest.mark.timeout(300)

# The kernel is busy until the file "free" is there.
BUSY = """\
import pathlib, threading
from comfydeploy_jupyter import UploadPanel
pathlib.Path("free").unlink(missing_ok=True)
display(UploadPanel(subfolder="by hand"))
while not pathlib.Path("free").exists():
    threading.Event().wait(0.1)
"""
DROP = """\
([target, names]) => {
  const transfer = new DataTransfer();
  for (const name of names) transfer.items.add(new File([`content of ${name}`], name));
  for (const type of ["dragenter", "dragover", "drop"]) {
    target.dispatchEvent(
      new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true}),
    );
  }
}"""


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file that is too large for a message of a notebook, and its SHA-256."""
    path = tmp_path_factory.mktemp("large") / f"{uuid.uuid4().hex}.bin"
    path.write_bytes(uuid.uuid4().bytes * 2_000_000)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def rows_in(page: Page) -> Locator:
    lists = page.locator(".comfydeploy-panel").get_by_role("list", name="Transfers")
    return lists.get_by_role("listitem")


def summary_of(page: Page) -> Locator:
    return page.locator(".cd-summary")


def network_of(page: Page) -> Callable[[int], None]:
    """Return a function that sets the bytes that the browser sends in a second; -1: no limit."""
    session = page.context.new_cdp_session(page)

    def limit(bytes_per_second: int) -> None:
        conditions = {"offline": False, "latency": 0, "downloadThroughput": -1}
        session.send(
            "Network.emulateNetworkConditions",
            {**conditions, "uploadThroughput": bytes_per_second},
        )

    return limit


def test_files_are_chosen_and_dropped_while_the_kernel_is_busy(
    open_notebook: Any, lab: JupyterProcess, comfyui: ComfyUIServer, large_file: tuple[Path, str]
) -> None:
    large, digest = large_file
    opened = open_notebook(BUSY)
    page, panel = opened.page, opened.panel
    try:
        expect(panel.get_by_label("Destination")).to_have_value("input")
        zone = panel.locator(".cd-zone")
        expect(zone).to_be_visible()
        panel.locator("input[type=file]").set_input_files(large)
        expect(rows_in(page)).to_have_count(1)
        page.evaluate(DROP, [zone.element_handle(), ["one.txt", "two.txt"]])
        expect(rows_in(page)).to_have_count(3)
        expect(summary_of(page)).to_have_text("3 done")
        opened.shoot("upload-panel")
        folder = comfyui.input_dir / "by hand"
        assert hashlib.sha256((folder / large.name).read_bytes()).hexdigest() == digest
        assert (folder / "two.txt").read_text() == "content of two.txt"
        row = rows_in(page).filter(has_text=large.name)
        expect(row.locator("code")).to_have_attribute("title", digest)
        panel.get_by_label("Subfolder").fill("typed since")
        page.evaluate(DROP, [zone.element_handle(), ["three.txt"]])
        expect(summary_of(page)).to_have_text("4 done")
        assert (comfyui.input_dir / "typed since" / "three.txt").exists()
        expect(page.locator(".jp-InputPrompt").first).to_have_text("[*]:")
    finally:
        (lab.root / "free").touch()
    panel.get_by_role("button", name="Clear finished").click()
    expect(rows_in(page)).to_have_count(0)


def test_uploads_are_cancelled_and_retried(looks: Looks, tmp_path: Path) -> None:
    opened, page, panel = looks.opened, looks.opened.page, looks.opened.panel
    files = [tmp_path / name for name in ("harbour.mp4", "voices.wav")]
    for path in files:
        path.write_bytes(bytes(20_000_000))
    opened.run("import comfydeploy_jupyter as cd\ncd.UploadPanel(subfolder='look')")
    expect(panel.locator(".cd-zone")).to_be_visible()
    limit = network_of(page)
    limit(50_000)
    try:
        panel.locator("input[type=file]").set_input_files(files)
        rows = rows_in(page)
        moving = rows.filter(has_text=re.compile(r"\d % · \d.* of 19.1 MiB"))
        expect(moving).not_to_have_count(0)
        looks.take("uploads")
        for path in files:
            panel.get_by_role("button", name=f"Cancel {path.name}").click()
        expect(rows.filter(has_text="Cancelled")).to_have_count(2)
        looks.take("uploads-cancelled")
    finally:
        limit(-1)
    panel.get_by_role("button", name=f"Retry {files[0].name}").click()
    digest = hashlib.sha256(bytes(20_000_000)).hexdigest()
    expect(rows.filter(has_text=files[0].name)).to_contain_text(digest[:12])


@pytest.mark.thorough
def test_through_the_kernel_where_the_page_comes_from_another_server(
    open_notebook: Any,
    jupyter: JupyterProcess,
    comfyui: ComfyUIServer,
    large_file: tuple[Path, str],
) -> None:
    large, digest = large_file
    code = (
        "from comfydeploy_jupyter import UploadPanel\n"
        "from comfydeploy_jupyter.client import Comfy\n"
        f"UploadPanel(comfy=Comfy({jupyter.url!r}, {jupyter.token!r}), subfolder='kernel')"
    )
    page = open_notebook(code, app="notebook", width=480).page
    page.locator("input[type=file]").set_input_files(large)
    expect(rows_in(page).first).to_contain_text(digest[:12])
    arrived = comfyui.input_dir / "kernel" / large.name
    assert hashlib.sha256(arrived.read_bytes()).hexdigest() == digest


def test_models_are_searched_hashed_moved_deleted_and_added(
    looks: Looks, empty: Comfy, comfyui: ComfyUIServer, bare_service: Service
) -> None:
    name = "look-of-ink.safetensors"
    path = comfyui.models_dir / "loras" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    empty.workflows.save({"1": node("LoraLoader", lora_name=name)}, "Sunset with ink")
    added = bare_service.files["added.safetensors"] = bytes(4_000_000)
    bare_service.store_delay = 1  # s for each 64 KiB
    opened, page, panel = looks.opened, looks.opened.page, looks.opened.panel
    opened.run(f"{connected(empty)}cd.UploadPanel(comfy=comfy)")
    expect(panel.get_by_text("or drop them")).to_be_visible()
    looks.take("upload")
    panel.get_by_role("tab", name="Add a model from a link").click()
    expect(panel.get_by_label("Link", exact=True)).to_be_visible()
    looks.take("models-link")

    panel.get_by_role("tab", name="Models", exact=True).click()
    panel.get_by_label("Search models").fill("ink look")
    row = panel.get_by_role("row", name=re.compile(name))
    expect(row).to_contain_text("7 B")
    expect(panel.get_by_role("table").locator("tbody tr")).to_have_count(1)
    panel.get_by_label("Search models").fill(name)
    looks.take("models")
    dialog = panel.get_by_role("dialog")
    remove = panel.get_by_role("button", name=f"Delete {name}")
    remove.click()
    expect(dialog).to_contain_text("1 stored workflow uses it")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    looks.take("models-delete")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(remove).to_be_focused()
    assert path.exists()
    panel.get_by_role("button", name=f"Move or rename {name}").click()
    expect(dialog).to_contain_text("1 stored workflow uses it: “Sunset with ink”.")
    looks.take("models-move")
    move = dialog.get_by_role("button", name="Move")
    expect(move).to_be_disabled()
    dialog.get_by_label("Models folder").select_option("vae")
    dialog.get_by_label("Name, with its subfolder").fill("new/ink.txt")
    assert violations(dialog) == []
    move.click()
    expect(dialog.get_by_role("alert").last).to_contain_text("ComfyUI lists only these files")
    dialog.get_by_label("Name, with its subfolder").fill(f"new/{name}")
    move.click()
    expect(dialog).to_be_hidden()
    expect(panel).to_contain_text(f"loras/{name} is vae/new/{name} now.")
    moved = comfyui.models_dir / "vae" / "new" / name
    assert (moved.read_bytes(), path.exists()) == (b"weights", False)
    expect(row).to_contain_text("vae")
    panel.get_by_role("button", name=f"Compute the hash of new/{name}").click()
    expect(panel.get_by_title(hashlib.sha256(b"weights").hexdigest())).to_be_visible()
    row.get_by_role("button", name=f"Delete new/{name}").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    assert not moved.exists()

    panel.get_by_role("tab", name="Add a model from a link").click()
    panel.get_by_label("Link", exact=True).fill(f"{bare_service.url}/files/added.safetensors")
    panel.get_by_label("Models folder", exact=True).select_option("loras")
    panel.get_by_role("button", name="Add model").click()
    transfer = rows_in(page).first
    expect(transfer).to_contain_text(re.compile(r"\d+ % · .* of 3.8 MiB"))
    bare_service.store_delay = 0
    expect(transfer).to_contain_text("Done")
    target = comfyui.models_dir / "loras/added.safetensors"
    assert target.read_bytes() == added
    panel.get_by_role("tab", name="Models", exact=True).click()
    panel.get_by_label("Search models").fill("")
    cell = panel.get_by_role("cell", name="added.safetensors", exact=True)
    expect(cell).to_be_visible()
    target.unlink()
