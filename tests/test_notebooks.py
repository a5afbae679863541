"""Every notebook runs from top to bottom, with a real Jupyter server and a real ComfyUI."""

from __future__ import annotations

import shutil
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.jupyter_process import REPOSITORY, JupyterProcess

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
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=jupyter.env)
    return notebook


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
