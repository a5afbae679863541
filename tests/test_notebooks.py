"""Every notebook runs from top to bottom, with a real Jupyter server and a real ComfyUI."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

from comfydeploy_jupyter.client import Comfy, Workflow
from tests.jupyter_process import REPOSITORY, JupyterProcess

if TYPE_CHECKING:
    from pathlib import Path

QUICKSTART = REPOSITORY / "notebooks" / "quickstart.ipynb"
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def executed(
    jupyter: JupyterProcess,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Any:
    """The notebook, executed in a copy of its folder."""
    folder = tmp_path_factory.mktemp("copy") / "notebooks"
    shutil.copytree(REPOSITORY / "notebooks", folder)
    notebook = nbformat.read(folder / request.param.name, as_version=4)
    execute(notebook, folder, jupyter)
    return notebook


def execute(notebook: Any, folder: Path, jupyter: JupyterProcess) -> None:
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=jupyter.env)


def outputs(notebook: Any) -> list[Any]:
    return [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]


@pytest.mark.parametrize("executed", NOTEBOOKS, indirect=True, ids=lambda path: path.stem)
def test_it_runs_without_a_complaint(executed: Any) -> None:
    complaints = [o for o in outputs(executed) if o.get("name") == "stderr"]
    assert complaints == []
    assert all(cell.outputs for cell in executed.cells if cell.cell_type == "code")


@pytest.mark.parametrize("executed", [QUICKSTART], indirect=True, ids=["quickstart"])
def test_the_quickstart_shows_what_it_promises(executed: Any) -> None:
    found = outputs(executed)
    pages = [o.data["text/html"] for o in found if "text/html" in o.get("data", {})]
    assert any("data:image/png;base64," in page and "Timings" in page for page in pages)
    texts = "".join(o.text for o in found if o.output_type == "stream")
    for fact in ("(512, 384)", "A sunset that needs no model", "'9.seed': 7", "success"):
        assert fact in texts
    assert "UnknownInputError" in texts
    assert "node EmptyImage (id 1): Value 0 smaller" in texts
    assert sum("image/png" in o.get("data", {}) for o in found) == 2
    views = [o for o in found if "application/vnd.jupyter.widget-view+json" in o.get("data", {})]
    assert len(views) == 1, "only the panel stays; progress bars leave a line of text"


@pytest.fixture
def hostile(jupyter: JupyterProcess) -> Workflow:
    """A workflow whose texts would like to be code."""
    workflow = Comfy(jupyter.url, jupyter.token).load(REPOSITORY / "notebooks" / "sunset.json")
    workflow.title = 'Sunset """\nraise SystemExit("out of the title")'
    return workflow.set({"Caption.value": '"""\nraise SystemExit(1)\n%%bash', "Height.value": 200})


def test_a_notebook_made_of_a_workflow_runs(
    hostile: Workflow, jupyter: JupyterProcess, tmp_path: Path
) -> None:
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


def test_a_script_made_of_a_workflow_runs(
    hostile: Workflow, jupyter: JupyterProcess, tmp_path: Path
) -> None:
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
