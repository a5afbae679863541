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


def test_importing_the_package_loads_no_heavy_module():
    assert imported("import comfydeploy_jupyter") & (HEAVY | SERVER) == set()


def test_the_client_imports_no_widgets():
    heavy = {"PIL", "pydantic", "ipywidgets", "IPython", "tornado", "jupyter_server"}
    assert imported("import comfydeploy_jupyter.client") & heavy == set()


@pytest.mark.slow  # imports Jupyter twice
def test_starting_jupyter_imports_no_heavy_module():
    jupyter = "import jupyter_server.serverapp"
    before = imported(jupyter)
    added = imported(f"{jupyter}\nimport comfydeploy_jupyter.extension") - before
    assert added & HEAVY == set()


@pytest.mark.slow
def test_cluster_modules_import_only_what_they_need():
    """The server works without Dask, workers without Jupyter, and the proxy with Python only."""
    assert imported("import comfydeploy_jupyter.services") & {"dask", "distributed"} == set()
    worker = imported("import comfydeploy_jupyter.machines.dask_worker")
    assert worker & {"tornado", "jupyter_server", "traitlets", "ipywidgets", "sqlite3"} == set()
    assert imported("import comfydeploy_jupyter.machines.dask_tls") & (HEAVY | SERVER) == set()
