"""UploadPanel as users see it."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Locator, Page

    from tests.helpers.comfyui import ComfyUIServer
    from tests.helpers.jupyter import JupyterProcess
    from tests.helpers.transfer_service import Service

pytestmark = pytest.mark.timeout(300)

PANEL = "from comfydeploy_jupyter import UploadPanel\npanel = UploadPanel({})\npanel"
LARGE = 60_000_000
# The kernel is busy until the file "free" is there.
BUSY = """\
import pathlib, threading
from comfydeploy_jupyter import UploadPanel
panel = UploadPanel(subfolder="by hand")
display(panel)
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
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is too large for a message of a notebook."""
    path = tmp_path_factory.mktemp("large") / f"{uuid.uuid4().hex}.bin"
    path.write_bytes(uuid.uuid4().bytes * (LARGE // 16))
    return path


@pytest.fixture(scope="module")
def large_hash(large_file: Path) -> str:
    return hashlib.sha256(large_file.read_bytes()).hexdigest()


def panel_in(page: Page) -> Locator:
    return page.locator(".comfydeploy-panel")


def rows_in(page: Page) -> Locator:
    return panel_in(page).get_by_role("list", name="Transfers").get_by_role("listitem")


def summary_of(page: Page) -> Locator:
    return page.locator(".comfydeploy-summary")


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
    open_notebook: Any,
    lab: JupyterProcess,
    comfyui: ComfyUIServer,
    large_file: Path,
    large_hash: str,
) -> None:
    lab_page = open_notebook("upload", BUSY)
    page = lab_page.page
    panel = panel_in(page)
    expect(panel.get_by_label("Destination")).to_have_value("Input files of workflows")
    zone = panel.locator(".comfydeploy-zone")
    expect(zone).to_be_visible()
    lab_page.shoot("upload-Light-empty")
    panel.locator("input[type=file]").set_input_files(large_file)
    expect(rows_in(page)).to_have_count(1)
    page.evaluate(DROP, [zone.element_handle(), ["one.txt", "two.txt"]])
    expect(rows_in(page)).to_have_count(3)
    expect(summary_of(page)).to_have_text("3 done")
    lab_page.shoot("upload-Light-done")
    folder = comfyui.input_dir / "by hand"
    assert hashlib.sha256((folder / large_file.name).read_bytes()).hexdigest() == large_hash
    assert (folder / "two.txt").read_text() == "content of two.txt"
    row = rows_in(page).filter(has_text=large_file.name)
    expect(row.locator("code")).to_have_attribute("title", large_hash)
    panel.get_by_label("Subfolder").fill("typed since")
    page.evaluate(DROP, [zone.element_handle(), ["three.txt"]])
    expect(summary_of(page)).to_have_text("4 done")
    assert (comfyui.input_dir / "typed since" / "three.txt").exists()
    expect(page.locator(".jp-InputPrompt").first).to_have_text("[*]:")
    (lab.root / "free").touch()
    panel.get_by_role("button", name="Clear finished").click()
    expect(rows_in(page)).to_have_count(0)


def test_cancel_retry_and_leave_the_page(
    open_notebook: Any, comfyui: ComfyUIServer, large_file: Path, large_hash: str
) -> None:
    lab_page = open_notebook("upload-slow", PANEL.format("subfolder='slow'"), fresh=True)
    page = lab_page.page
    panel = panel_in(page)
    expect(panel.locator(".comfydeploy-zone")).to_be_visible()
    limit = network_of(page)
    limit(2_000_000)
    panel.locator("input[type=file]").set_input_files(large_file)
    (row,) = rows_in(page).all()
    expect(row).to_contain_text(re.compile(r"[1-9]\d* % · \d.* of 57.2 MiB · .*/s"))
    lab_page.shoot("upload-moving")
    row.get_by_role("button", name=f"Cancel {large_file.name}").click()
    expect(row).to_contain_text("Cancelled")
    limit(-1)
    row.get_by_role("button", name=f"Retry {large_file.name}").click()
    expect(row).to_contain_text(large_hash[:12])
    limit(1_000_000)
    panel.get_by_label("Subfolder").fill("left")
    panel.get_by_label("Subfolder").press("Tab")
    panel.locator("input[type=file]").set_input_files(large_file)
    expect(rows_in(page).first).to_contain_text(" % ")
    lab_page.save()
    page.reload()
    expect(rows_in(page)).to_have_count(2)
    expect(summary_of(page)).to_have_text("1 done, 1 lost")
    lost = rows_in(page).filter(has_text="choose the file again")
    expect(lost).to_contain_text("input/left")
    expect(panel.get_by_label("Subfolder")).to_have_value("left")
    lab_page.shoot("upload-left")
    assert not list((comfyui.input_dir / "left").glob(f"*{large_file.name}*"))


@pytest.mark.thorough
def test_through_the_kernel_where_the_page_reaches_no_route(
    open_notebook: Any, comfyui: ComfyUIServer, large_file: Path, large_hash: str
) -> None:
    code = PANEL.format("subfolder='kernel'")
    lab_page = open_notebook("upload-kernel", code, app="notebook", width=480, fresh=True)
    page = lab_page.page
    page.route("**/comfyui-deploy/**", lambda route: route.abort())
    panel_in(page).locator("input[type=file]").set_input_files(large_file)
    expect(rows_in(page).first).to_contain_text(large_hash[:12])
    lab_page.shoot("upload-notebook-narrow")
    arrived = comfyui.input_dir / "kernel" / large_file.name
    assert hashlib.sha256(arrived.read_bytes()).hexdigest() == large_hash


def test_models_are_searched_hashed_and_added(
    open_notebook: Any, comfyui: ComfyUIServer, bare_service: Service
) -> None:
    for folder, name, size in [
        ("checkpoints", "sunset-v1.safetensors", 3_000_000),
        ("loras", "style/ink.safetensors", 200_000),
        ("vae", "plain.safetensors", 70_000),
    ]:
        path = comfyui.models_dir / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    added = bare_service.files["added.safetensors"] = bytes(4_000_000)
    bare_service.store_delay = 1  # s for each 64 KiB
    lab_page = open_notebook("upload-models", PANEL.format(""), theme="JupyterLab Dark", fresh=True)
    page = lab_page.page
    panel = panel_in(page)
    panel.get_by_role("tab", name="Models").click()
    table = panel.get_by_role("table")
    expect(table.get_by_role("row", name=re.compile("sunset-v1"))).to_contain_text("2.9 MiB")
    lab_page.shoot("models-Dark")
    panel.get_by_label("Search models").fill("ink sty")
    expect(table.locator("tbody tr")).to_have_count(1)
    table.get_by_role("button", name="Compute the hash of style/ink.safetensors").click()
    digest = hashlib.sha256(bytes(200_000)).hexdigest()
    expect(table.get_by_title(digest)).to_be_visible()
    panel.get_by_role("tab", name="Add a model from a link").click()
    panel.get_by_label("Link").fill(f"{bare_service.url}/files/added.safetensors")
    panel.get_by_label("Models folder", exact=True).select_option("loras")
    lab_page.shoot("models-add-Dark")
    panel.get_by_role("button", name="Add model").click()
    row = rows_in(page).first
    expect(row).to_contain_text(re.compile(r"\d+ % · .* of 3.8 MiB"))
    lab_page.shoot("models-adding-Dark")

    other = open_notebook("upload-other", PANEL.format(""), theme="JupyterLab Dark").page
    expect(rows_in(other).first).to_contain_text("added.safetensors")

    lab_page.save()
    page.reload()
    expect(rows_in(page).first).to_contain_text(re.compile(r"\d+ % · .* of 3.8 MiB"))
    bare_service.store_delay = 0
    for each in (page, other):
        expect(rows_in(each).first).to_contain_text("Done")
    assert (comfyui.models_dir / "loras/added.safetensors").read_bytes() == added
    panel_in(other).get_by_role("tab", name="Models").click()
    expect(
        panel_in(other).get_by_role("cell", name="added.safetensors", exact=True)
    ).to_be_visible()


@pytest.mark.thorough
def test_models_are_moved_and_deleted(open_notebook: Any, comfyui: ComfyUIServer) -> None:
    name = f"ink-{uuid.uuid4().hex[:8]}.safetensors"
    path = comfyui.models_dir / "loras" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    naming = {"1": {"class_type": "LoraLoader", "inputs": {"lora_name": name}}}
    code = f"""\
from comfydeploy_jupyter import UploadPanel, connect
connect().workflows.save({naming!r}, "sunset with ink")
panel = UploadPanel()
panel"""
    lab_page = open_notebook("upload-change", code, theme="JupyterLab Dark", fresh=True)
    page = lab_page.page
    panel = panel_in(page)
    panel.get_by_role("tab", name="Models").click()
    panel.get_by_label("Search models").fill(name)
    panel.get_by_role("button", name=f"Move or rename {name}").click()
    dialog = panel.get_by_role("dialog")
    expect(dialog).to_contain_text("1 stored workflow uses it: “sunset with ink”.")
    move = dialog.get_by_role("button", name="Move")
    expect(move).to_be_disabled()
    dialog.get_by_label("Models folder").select_option("vae")
    dialog.get_by_label("Name, with its subfolder").fill("new/ink.txt")
    lab_page.shoot("models-move-Dark")
    assert violations(dialog) == []
    move.click()
    expect(dialog.get_by_role("alert").last).to_contain_text("ComfyUI lists only these files")
    dialog.get_by_label("Name, with its subfolder").fill(f"new/{name}")
    move.click()
    expect(dialog).to_be_hidden()
    expect(panel).to_contain_text(f"loras/{name} is vae/new/{name} now.")
    moved = comfyui.models_dir / "vae" / "new" / name
    assert (moved.read_bytes(), path.exists()) == (b"weights", False)
    row = panel.get_by_role("row", name=re.compile(name))
    expect(row).to_contain_text("vae")
    remove = row.get_by_role("button", name=f"Delete new/{name}")
    remove.click()
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(remove).to_be_focused()
    assert moved.exists()
    remove.click()
    confirm = dialog.get_by_role("button", name="Delete")
    expect(confirm).to_be_enabled()
    lab_page.shoot("models-delete-Dark")
    confirm.click()
    expect(row).to_have_count(0)
    assert not moved.exists()
