"""docs/architecture.md lists the modules as they are, and each exception to a rule has a reason."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from comfydeploy_jupyter.graphs.versions import OLDEST_TESTED

from .comfyui_server import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = REPOSITORY / "comfydeploy_jupyter"
_EXCEPTION = re.compile(r"#\s*(?:noqa: [A-Z0-9, ]+|type: ignore\[[\w, -]+\])")


def picture() -> str:
    return (REPOSITORY / "docs" / "architecture.md").read_text()


def folders() -> dict[str, str]:
    """Return what ``docs/architecture.md`` says of each folder; ``""`` is the package itself."""
    found = {"": ""}
    outer = inner = ""
    for line in picture().split("```")[1].split("comfydeploy_jupyter/\n")[1].splitlines():
        indent = len(line) - len(line.lstrip())
        if indent == 0:
            break
        opened = re.match(r" +(\w+)/ ", line)
        if indent == 2:
            outer = inner = opened[1] if opened else ""
        elif indent == 4:
            inner = f"{outer}/{opened[1]}" if opened else outer
        found[inner] = found.get(inner, "") + line + "\n"
    return found


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def test_each_module_is_in_the_architecture():
    described = folders()
    missing = []
    for path in python_files("comfydeploy_jupyter"):
        inner = path.relative_to(PACKAGE)
        folder = inner.parent.as_posix().removeprefix(".")
        if path.name not in described.get(folder, "") and path.name != "__init__.py":
            missing.append(str(inner))
    assert missing == []


def test_the_architecture_names_no_missing_module():
    for folder, text in folders().items():
        names = set(re.findall(r"\b(\w+\.py)\b", text))
        gone = {name for name in names if not (PACKAGE / folder / name).is_file()}
        assert gone <= {"main.py"}, folder


def test_each_package_has_its_import_rules():
    """Server modules are in the layers, and only handlers and the extension may import tornado."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    layers, *_, tornado = text.split("[[tool.importlinter.contracts]]")[1:]
    kernel_side = {"client", "display", "view_scripts", "magics", "mcp_tools", "widgets"}
    entrances = {"__init__", "__main__", "_version", "launcher"}
    names = {path.stem for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    names |= {path.stem for path in PACKAGE.glob("*.py")} - entrances
    assert names - kernel_side == set(re.findall(r"comfydeploy_jupyter\.(\w+)", layers))
    apart = names - {"handlers", "extension"} | {"launcher"}
    assert apart == set(re.findall(r'^  "comfydeploy_jupyter\.(\w+)",$', tornado, re.MULTILINE))


def test_each_exception_to_a_rule_has_its_reason():
    bare = []
    for path in python_files("comfydeploy_jupyter", "tests", "benchmarks", "scripts"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            exceptions = list(_EXCEPTION.finditer(line))
            if exceptions and not re.match(r"\s*(?:#|-) ?\w", line[exceptions[-1].end() :]):
                bare.append(f"{path.relative_to(REPOSITORY)}:{number}")
    assert bare == []


PUBLIC = {"_asdict", "_exit", "_Hash"}
"""Names with an underscore that are documented, and one that only type checkers see."""


def test_no_private_names_of_other_packages_are_used():
    made, used = set(), {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                made.add(node.name)
            elif isinstance(node, ast.arg):
                made.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                made.add(node.id)
            elif isinstance(node, ast.Attribute):
                ours = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
                if ours and isinstance(node.ctx, ast.Store):
                    made.add(node.attr)
                used[node.attr] = f"{path.relative_to(PACKAGE)}:{node.lineno}"
    private = {name for name in used if name.startswith("_") and not name.endswith("__")}
    assert {name: used[name] for name in private - made - PUBLIC} == {}


def test_the_oldest_version_is_named_in_one_place():
    """Only `graphs.versions` has the differences between versions of ComfyUI."""
    named = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if OLDEST_TESTED in path.read_text()
    }
    assert named == {"graphs/versions.py"}


def test_the_modules_of_runs_have_no_import_cycle():
    """No module imports itself through other modules, also not for type annotations."""
    imports = {}
    for path in (PACKAGE / "runs").glob("*.py"):
        found = ast.walk(ast.parse(path.read_text()))
        froms = [node for node in found if isinstance(node, ast.ImportFrom) and node.level == 1]
        imports[path.stem] = {node.module for node in froms}
    order = re.search(r"holds the imports: (`archives.*?`service`)\.", picture(), re.DOTALL)
    layers = [set(re.findall(r"\w+", layer)) for layer in order[1].split("<-")]
    assert set().union(*layers) == imports.keys() - {"__init__"}
    above: set[str] = set()
    for layer in layers:
        for module in layer:
            assert imports[module] <= above, module
        above |= layer


LONGER = {"lifecycle.py": 350}
"""Lines of modules of runs with their own bound: the states, the table and the function are one."""


def test_the_modules_of_runs_are_short():
    lines = {
        path.name: len(path.read_text().splitlines()) for path in (PACKAGE / "runs").glob("*.py")
    }
    assert {name: n for name, n in lines.items() if n >= LONGER.get(name, 300)} == {}


MAX_LINES, MAX_METHODS = 500, 30


def test_each_large_module_has_its_reason():
    """docs/architecture.md names the modules and classes above the bounds, and no others."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    section = text.partition("\n## Large modules\n")[2].partition("\n## ")[0]
    reasons = re.findall(r"^- `([\w/]+\.py)`(?:, `(\w+)`)?: \w.+", section, re.MULTILINE)
    assert len(reasons) == section.count("\n- ")
    large = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text()
        classes = [
            node.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.ClassDef) and len(methods_of(node)) > MAX_METHODS
        ]
        if classes or len(source.splitlines()) > MAX_LINES:
            name = path.relative_to(PACKAGE).as_posix()
            large += [(name, each) for each in classes or [""]]
    assert reasons == large


def methods_of(node: ast.ClassDef) -> list[ast.stmt]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [statement for statement in node.body if isinstance(statement, kinds)]
