"""Every notebook runs from top to bottom, with a real Jupyter server and a real ComfyUI."""

import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from nbclient import NotebookClient

from comfydeploy_jupyter.client import Comfy
from tests.helpers.cloudflared import FakeCloudflared
from tests.helpers.jupyter import TOKEN
from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import few

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


# Which widgets the kernel still has; run after the last cell.
LIVING = """
from ipywidgets.widgets.widget import _instances
print(*_instances)
"""

VIEW = "application/vnd.jupyter.widget-view+json"
HEX = r"[0-9a-f]"
UUID = re.compile(rf"\b{HEX}{{8}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{12}}\b")
UUID_FORM = "00000000-0000-4000-8000-{:012d}"
RECORD = re.compile(rf"comfydeploy-record-{HEX}{{32}}")


def digest(notebook):
    sources = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def cleaned(notebook, names):
    """Return an executed notebook in its stored form.

    Widgets are removed: without their kernel they are an empty box, and the plain text of the
    panels has the same content. Ids are numbered, so that stored notebooks change little.
    """
    stored = copy.deepcopy(notebook)
    stored.metadata.pop("widgets", None)
    stored.metadata["comfydeploy"] = {"sources": digest(notebook)}
    for cell in stored.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if VIEW not in o.get("data", {})]
            for output in cell.outputs:
                output.pop("transient", None)
                if "image/png" in output.get("data", {}):  # Pillow provides both
                    output.data.pop("image/jpeg", None)
    text = json.dumps([cell.get("outputs") for cell in stored.cells])
    for name, public in names.items():
        text = text.replace(json.dumps(name)[1:-1], public)
    known = {}
    for pattern, form in ((RECORD, "comfydeploy-record-{}"), (UUID, UUID_FORM)):
        for number, found in enumerate(dict.fromkeys(pattern.findall(text)), 1):
            known[found] = form.format(number)
    for found, number in known.items():
        text = text.replace(found, number)
    for cell, outputs in zip(stored.cells, json.loads(text), strict=True):
        if outputs is not None:
            cell.outputs = outputs
    return nbformat.from_dict(stored)


@pytest.fixture(scope="module")
def own_jupyter(start_jupyter, comfyui, tmp_path_factory):
    """A Jupyter server with an empty store and the replacement for cloudflared."""
    cloudflared = FakeCloudflared(tmp_path_factory.mktemp("cloudflared"))
    return start_jupyter(
        ComfyDeploy={
            "comfyui_url": comfyui.url,
            "comfyui_path": str(comfyui.path),
            "data_dir": str(tmp_path_factory.mktemp("comfydeploy")),
            "cloudflared_path": str(cloudflared.path),
        }
    )


@pytest.fixture(scope="module")
def executed(
    own_jupyter,
    comfyui,
    tmp_path_factory,
    request,
):
    """The notebook, executed in a copy of its folder; stored where ``STORE_NOTEBOOKS`` is set."""
    folder = tmp_path_factory.mktemp("copy") / "notebooks"
    shutil.copytree(REPOSITORY / "notebooks", folder)
    notebook = nbformat.read(folder / request.param.name, as_version=4)
    living = nbformat.v4.new_code_cell(LIVING)
    notebook.cells.append(living)
    execute(notebook, folder, own_jupyter)
    notebook.cells.pop()
    if os.environ.get("STORE_NOTEBOOKS"):
        names = {
            own_jupyter.url: "http://localhost:8888/",
            urlsplit(own_jupyter.url).path: "/",
            comfyui.url: "http://127.0.0.1:8188",
            str(folder): "notebooks",
        }
        nbformat.write(cleaned(notebook, names), request.param)
    (printed,) = living.outputs
    notebook.living = set(printed.text.split())
    return notebook


def execute(notebook, folder, jupyter):
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=jupyter.env)


def outputs(notebook):
    return [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]


@pytest.mark.parametrize("executed", few(NOTEBOOKS), indirect=True, ids=lambda path: path.stem)
def test_it_runs_without_errors_or_warnings(executed):
    complaints = [o for o in outputs(executed) if o.get("name") == "stderr"]
    assert complaints == []
    assert all(cell.outputs for cell in executed.cells if cell.cell_type == "code")
    views = [o.data[VIEW]["model_id"] for o in outputs(executed) if VIEW in o.get("data", {})]
    assert views
    assert set(views) <= executed.living, "a panel that is shown does not work"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_in_a_form_that_a_web_page_can_show(path):
    text = path.read_text()
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.comfydeploy.sources == digest(notebook), (
        "the outputs are not those of these cells; `make notebooks` stores new ones"
    )
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells)
    kinds = {mime for o in outputs(notebook) for mime in o.get("data", {})}
    assert not {o.output_type for o in outputs(notebook)} & {"error"}
    assert kinds <= {"text/plain", "text/html", "image/png", "image/jpeg"}, "no widgets"
    assert "widgets" not in notebook.metadata
    assert len(text) < 300_000
    homes = ("/tmp/", "/root", "/home/", "/Users/", str(Path.home()))
    for secret in (*homes, TOKEN, "%40", "token=", "comfydeploy_access"):
        assert secret not in text
    assert not re.search(r"127\.0\.0\.1:(?!8188\b)\d", text)


@pytest.fixture
def hostile(jupyter):
    """A workflow whose texts look like code."""
    workflow = Comfy(jupyter.url, jupyter.token).load(REPOSITORY / "notebooks" / "sunset.json")
    workflow.title = 'Sunset """\nraise SystemExit("out of the title")'
    return workflow.set({"Caption.value": '"""\nraise SystemExit(1)\n%%bash', "Height.value": 200})


def test_a_notebook_made_of_a_workflow_runs(hostile, jupyter, tmp_path):
    hostile.to_notebook(tmp_path / "made.ipynb")
    notebook = nbformat.read(tmp_path / "made.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if cell.id == "inputs"]
    assert "\nwidth = 640" in cell.source
    cell.source = cell.source.replace("\nwidth = 640", "\nwidth = 320")
    execute(notebook, tmp_path, jupyter)
    found = outputs(notebook)
    assert [o for o in found if o.get("name") == "stderr"] == []
    pages = [o.data["text/html"] for o in found if "text/html" in o.get("data", {})]
    assert any("34 nodes" in page for page in pages), "the graph is shown"
    assert any("data:image/png;base64," in page and "%%bash" in page for page in pages)
    (picture,) = (tmp_path / "outputs").iterdir()
    kept = Comfy(jupyter.url, jupyter.token).load(picture)
    assert kept["Width"].value == 320
    assert kept["Caption"].value == hostile["Caption"].value


@pytest.mark.thorough
def test_a_script_made_of_a_workflow_runs(hostile, jupyter, tmp_path):
    hostile.to_python(tmp_path / "made.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", "made.py"],
        cwd=tmp_path,
        env=jupyter.env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (picture,) = (tmp_path / "outputs").iterdir()
    assert str(picture.relative_to(tmp_path)) in done.stdout
    assert "%%bash" in done.stdout
    assert "success after" in done.stdout
