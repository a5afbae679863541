"""The examples in the documents run, and every public name is in the documents."""

import os
import re
import shutil
import subprocess

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from comfydeploy_jupyter.extension import ComfyDeploy
from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import few

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
CONFIGURATION = DOCS / "configuration.md"
# Their examples need GPUs and clusters, or a server of tools; other tests run such calls.
ELSEWHERE = (DOCS / "pools.md", DOCS / "clusters.md", DOCS / "agents.md")
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def relative_name(page):
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page, language):
    found = BLOCK.finditer(page.read_text())
    return [block["code"] for block in found if block["language"] == language]


def pages_with(language):
    return [
        page for page in PAGES if page not in (CONFIGURATION, *ELSEWHERE) and blocks(page, language)
    ]


@pytest.fixture
def folder(tmp_path):
    """A folder with what the examples use."""
    return shutil.copytree(REPOSITORY / "notebooks", tmp_path / "work")


@pytest.mark.parametrize(
    "pages",
    few([pages_with("python")[:1], pages_with("python")[1:]]),
    ids=few(["README", "docs"]),
)
def test_python_examples_run(pages, folder, jupyter):
    codes = [code for page in pages for code in blocks(page, "python")]
    cells = [nbformat.v4.new_code_cell(code) for code in codes]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute(env=jupyter.env)
    complaints = [o.text for c in cells for o in c.outputs if o.get("name") == "stderr"]
    assert complaints == []


@pytest.mark.parametrize("page", few(pages_with("bash"), 2), ids=relative_name)
def test_shell_examples_run(page, folder, jupyter):
    env = {
        **os.environ,
        "JUPYTER_URL": jupyter.url.rstrip("/"),
        "JUPYTER_TOKEN": jupyter.token,
    }
    for code in blocks(page, "bash"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, ""), code
        assert ('"code": "unknown_input"' in done.stdout) == ("Sky.colour" in code), code
        assert "internal_error" not in done.stdout


@pytest.mark.parametrize("code", blocks(CONFIGURATION, "python"))
def test_configuration_examples_name_settings(code):
    config = Config()
    exec(code, {"c": config})
    app = ComfyDeploy()
    app.update_config(config)
    for name, value in config.ComfyDeploy.items():
        assert name in ComfyDeploy.class_own_traits(config=True)
        assert getattr(app, name) == value
