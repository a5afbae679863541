"""Importing the package loads no large module that is not used yet."""

import os
import subprocess
import sys

import pytest

from tests.helpers.processes import REPOSITORY

HEAVY = {"pydantic", "aiohttp", "PIL", "ipywidgets", "IPython", "requests", "numpy", "yaml"}
SERVER = {"tornado", "jupyter_server", "traitlets", "sqlite3"}


def imported(statement):
    """Return the top-level modules that a fresh interpreter has after a statement."""
    # measuring coverage would import more
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    names = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        cwd=REPOSITORY,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    return {name.partition(".")[0] for name in names}


@pytest.mark.slow  # imports everything that Jupyter and workers do
@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("", HEAVY | SERVER),
        (".client", (HEAVY | SERVER) - {"aiohttp", "requests", "numpy", "yaml"}),
        (".services", {"dask", "distributed"}),  # the server works without Dask
        (".machines.dask_worker", SERVER | {"ipywidgets"}),  # workers have no Jupyter
        (".machines.dask_tls", HEAVY | SERVER),  # runs where only Python is
    ],
)
def test_importing_a_module_loads_none_that_it_does_not_need(module, unused):
    assert imported(f"import comfydeploy_jupyter{module}") & unused == set()


@pytest.mark.slow
def test_starting_jupyter_imports_no_heavy_module():
    jupyter = "import jupyter_server.serverapp"
    before = imported(jupyter)
    added = imported(f"{jupyter}\nimport comfydeploy_jupyter.extension") - before
    assert added & HEAVY == set()
