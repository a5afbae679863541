"""The rules for imports that import-linter does not know."""

import ast
import re
from graphlib import TopologicalSorter

from tests.helpers.processes import REPOSITORY

PACKAGE = REPOSITORY / "comfydeploy_jupyter"


def test_each_package_has_its_import_rules():
    text = (REPOSITORY / "pyproject.toml").read_text()
    layers = text.split("[[tool.importlinter.contracts]]")[1]
    kernel_side = {"cli", "client", "display", "magics", "mcp_tools", "widgets"}
    entrances = {"__init__", "__main__", "_version", "launcher"}
    names = {path.stem for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    names |= {path.stem for path in PACKAGE.glob("*.py")} - entrances
    assert names - kernel_side == set(re.findall(r"comfydeploy_jupyter\.(\w+)", layers))


def test_the_garbage_collector_of_the_users_server_is_not_changed():
    named = {path.name for path in PACKAGE.rglob("*.py") if "import gc" in path.read_text()}
    assert named == {"worker.py"}


def test_the_modules_of_runs_have_no_import_cycle():
    """No module imports itself through other modules, also not for type annotations."""
    imports = {}
    for path in (PACKAGE / "runs").glob("*.py"):
        found = ast.walk(ast.parse(path.read_text()))
        froms = [node for node in found if isinstance(node, ast.ImportFrom) and node.level == 1]
        imports[path.stem] = {node.module for node in froms if node.module}
    assert list(TopologicalSorter(imports).static_order())
