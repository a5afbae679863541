"""The examples in the documents run, and every public name is in the documents."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

import comfydeploy_jupyter
from comfydeploy_jupyter import client
from comfydeploy_jupyter.extension import ComfyDeploy
from comfydeploy_jupyter.openapi.document import specification
from scripts import docs_site, release
from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.jupyter import JupyterProcess

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
CONFIGURATION = DOCS / "configuration.md"
# Its examples need GPUs and clusters; tests/clusters runs such calls.
CLUSTERS = (DOCS / "pools.md", DOCS / "clusters.md")
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
OURS = rf"{re.escape(release.project()['urls']['Repository'])}/(?:blob|raw)/main/"
LINK = re.compile(rf"\]\((?P<ours>{OURS})?(?!https?:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


def relative_name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    found = BLOCK.finditer(page.read_text())
    return [block["code"] for block in found if block["language"] == language]


def pages_with(language: str) -> list[Path]:
    return [
        page for page in PAGES if page not in (CONFIGURATION, *CLUSTERS) and blocks(page, language)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what the examples use."""
    return shutil.copytree(REPOSITORY / "notebooks", tmp_path / "work")


@pytest.mark.parametrize(
    "pages",
    [
        *([page] for page in pages_with("python") if page.parent.name != "how-to"),
        [page for page in pages_with("python") if page.parent.name == "how-to"],
    ],
    ids=lambda pages: relative_name(pages[0]),
)
def test_python_examples_run(pages: list[Path], folder: Path, jupyter: JupyterProcess) -> None:
    codes = [code for page in pages for code in blocks(page, "python")]
    cells = [nbformat.v4.new_code_cell(code) for code in codes]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute(env=jupyter.env)
    complaints = [o.text for c in cells for o in c.outputs if o.get("name") == "stderr"]
    assert complaints == []


@pytest.mark.parametrize("page", pages_with("bash"), ids=relative_name)
def test_shell_examples_run(page: Path, folder: Path, jupyter: JupyterProcess) -> None:
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
def test_configuration_examples_name_settings(code: str) -> None:
    config = Config()
    exec(code, {"c": config})
    app = ComfyDeploy()
    app.update_config(config)
    for name, value in config.ComfyDeploy.items():
        assert name in ComfyDeploy.class_own_traits(config=True)
        assert getattr(app, name) == value


@pytest.mark.parametrize("page", PAGES, ids=relative_name)
def test_targets_of_links_exist(page: Path) -> None:
    for link in LINK.finditer(page.read_text()):
        folder = REPOSITORY if link["ours"] else page.parent
        path = (folder / link["path"]).resolve() if link["path"] else page
        assert path.exists(), link[0]
        if link["anchor"]:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert link["anchor"] in slugs, link[0]


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("../CHANGELOG.md", "../changelog.md"),
        ("../docs/http.md#files", "../http.md#files"),
        ("sunset.json", "https://forge/sunset.json"),
        ("quickstart.ipynb", "quickstart.md"),
        ("missing.md", "missing.md"),
    ],
)
def test_links_between_files_become_links_between_pages(link: str, expected: str) -> None:
    text = docs_site.linked(
        f"[text]({link})", "notebooks/sweep.ipynb", "notebooks/sweep.md", "https://forge"
    )
    assert text == f"[text]({expected.replace('forge/', 'forge/notebooks/')})"


def test_reference_has_every_operation() -> None:
    made = docs_site.openapi()
    for path, methods in specification()["paths"].items():
        for method, operation in methods.items():
            heading = f"### `{method.upper()} {path.lstrip('/')}`"
            assert f"{heading} " in made, heading
            assert operation["summary"] in made


def test_reference_has_every_public_class() -> None:
    pages = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    shown = set(re.findall(r"^::: comfydeploy_jupyter\.(?:\w+\.)?(\w+)$", pages, re.MULTILINE))
    public = {*client.__all__, *comfydeploy_jupyter.__all__} - {"__version__"}
    assert public <= shown


def public_names() -> list[str]:
    names = [name for name in comfydeploy_jupyter.__all__ if not name.startswith("_")]
    for name in client.__all__:
        names.append(name)
        thing = getattr(client, name)
        if inspect.isclass(thing):
            names += [f"{name}.{member}" for member in vars(thing) if not member.startswith("_")]
    return sorted(set(names))


@pytest.fixture(scope="module")
def code() -> tuple[list[str], list[str]]:
    """Return the code in the documents: the blocks, and the code within lines."""
    text = "\n".join(page.read_text() for page in PAGES)
    fenced = [block["code"] for block in BLOCK.finditer(text)]
    return fenced, SPAN.findall(BLOCK.sub("", text))


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_is_explained(name: str, code: tuple[list[str], list[str]]) -> None:
    blocks, spans = code
    owner, dot, last = name.rpartition(".")
    # A member stands behind a dot, or alone where the words around it say whose it is.
    used = rf"\.{last}\b" if dot else rf"\b{last}\b"
    alone = rf"({owner}\.)?{last}(\(.*\))?" if dot else rf"{last}\b.*"
    assert any(re.search(used, each) for each in (*blocks, *spans)) or any(
        re.fullmatch(alone, each) for each in spans
    )
