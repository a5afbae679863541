"""The specification is valid, and agrees with the routes, the checks and the documents."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import validate
from tornado.web import RequestHandler

from comfydeploy_jupyter.compat.comfy_api import CODES
from comfydeploy_jupyter.errors import ComfyDeployError, MethodNotAllowedError
from comfydeploy_jupyter.handlers import all_routes
from comfydeploy_jupyter.handlers import operations as declared
from comfydeploy_jupyter.handlers.base import NotFound
from comfydeploy_jupyter.handlers.document import document, specification
from comfydeploy_jupyter.handlers.route import PREFIX
from comfydeploy_jupyter.request_models import Model
from tests.helpers.jupyter import faults, operations, strict
from tests.helpers.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTES_PAGE = REPOSITORY / "docs" / "routes.md"
EVENTS = "text/event-stream"
OTHER_SPELLINGS = {"/comfyui", "/comfyui/api/ws"}  # of a path in the specification
OF_REQUESTS = ("handlers", "request_models")
CALLED = ("get", "head", "post", "put", "patch", "delete")
ROW = re.compile(r"^\| (`(?:GET|POST|HEAD|DELETE) .*?) \| (.*) \|$", re.MULTILINE)
CALL = re.compile(r"`(GET|POST|HEAD|DELETE) ([^`?]+)`")


def routes() -> Iterator[tuple[str, set[str]]]:
    """Yield the pattern of each route and the methods that it takes."""
    for pattern, handler in all_routes():
        if not issubclass(handler, NotFound):
            taken = {
                method
                for method in CALLED
                if getattr(handler, method) is not getattr(RequestHandler, method)
            }
            yield f"/{pattern}", taken


def documented() -> dict[str, set[str]]:
    return {path: set(item) for path, item in strict()["paths"].items()}


def matching(pattern: str) -> list[str]:
    """Return the paths of the specification for which this route is the first that matches."""
    return [path for path in documented() if _route_of(path.replace("{tail}", "a/b")) == pattern]


def _route_of(path: str) -> str | None:
    found = (f"/{pattern}" for pattern, _ in all_routes() if re.fullmatch(f"/{pattern}", path))
    return next(found, None)


def values(part: Any, name: str) -> Iterator[Any]:
    """Yield the values of a key at any depth."""
    if isinstance(part, list):
        for item in part:
            yield from values(item, name)
    elif isinstance(part, dict):
        for key, item in part.items():
            if key == name:
                yield item
            yield from values(item, name)


def contents_of(place: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = place.get("content", {})
    return found


def events(text: str) -> list[dict[str, str]]:
    """Return the events of a stream."""
    blocks = text.strip().split("\n\n")
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


@pytest.mark.slow
def test_it_is_openapi() -> None:
    validate(specification())


def test_it_says_where_the_routes_are() -> None:
    assert specification("/a%40b/")["servers"] == [{"url": "/a%40b"}]
    assert specification("/")["servers"] == [{"url": "/"}]


def test_the_same_document_has_the_same_text() -> None:
    assert document("/") == document("/") != document("/other/")


def test_every_route_is_specified_with_its_methods() -> None:
    for pattern, taken in routes():
        if pattern in OTHER_SPELLINGS:
            continue
        found = matching(pattern)
        assert found, f"{pattern} is not in the specification"
        for path in found:
            assert documented()[path] == taken, path


def test_every_specified_path_is_a_route() -> None:
    known = {path for pattern, _ in routes() for path in matching(pattern)}
    assert set(documented()) == known


def test_the_docs_list_what_is_specified() -> None:
    defined = {
        (method.lower(), f"/{path}")
        for row in ROW.findall(ROUTES_PAGE.read_text())
        for method, path in CALL.findall(row[0])
    }
    known = {
        (method, path.replace("/{tail}", "/…"))
        for path, methods in documented().items()
        for method in methods
        if path != "/comfydeploy" and not path.startswith("/comfyui/")
    }
    assert defined == known
    assert "| `comfyui/` |" in ROUTES_PAGE.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [pytest.param(*o, id=f"{o[0]} {o[1].removeprefix(f'/{PREFIX}/')}") for o in operations()],
)
def test_the_docs_name_every_field(method: str, path: str, operation: dict[str, Any]) -> None:
    text = ROUTES_PAGE.read_text()
    names = [p["name"] for p in operation["parameters"] if p["in"] == "query"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        schema = schema.get("allOf", [schema])[0]
        name = schema.get("$ref", "").rpartition("/")[2]
        names += strict()["components"]["schemas"].get(name, schema).get("properties", {})
    missing = [name for name in names if not re.search(rf"[`\"(]{name}[`\",=)]", text)]
    assert missing == []


@pytest.mark.slow
def test_the_tables_of_the_docs_are_up_to_date() -> None:
    script = REPOSITORY / "scripts" / "route_tables.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))


def test_links_lead_to_operations() -> None:
    names = {operation["operationId"]: operation for _, _, operation in operations()}
    found = [
        reply["links"]
        for _, _, o in operations()
        for reply in o["responses"].values()
        if "links" in reply
    ]
    assert found
    for links in found:
        for link in links.values():
            parameters = {p["name"] for p in names[link["operationId"]]["parameters"]}
            assert set(link.get("parameters", {})) <= parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    "operation", [pytest.param(o[2], id=o[2]["operationId"]) for o in operations()]
)
def test_every_body_and_parameter_has_a_valid_example(operation: dict[str, Any]) -> None:
    bodies = [operation["requestBody"]] if "requestBody" in operation else []
    for place in (*operation["parameters"], *bodies, *operation["responses"].values()):
        for content in [place] if "schema" in place else contents_of(place).values():
            if content["schema"] == {"type": "string", "format": "binary"}:
                continue
            examples = [content["example"]] if "example" in content else []
            examples += [
                strict()["components"]["examples"][example["$ref"].rpartition("/")[2]]["value"]
                for example in content.get("examples", {}).values()
            ]
            assert examples, place
            for example in examples:
                assert example is not None, place
                for value in (
                    events(example) if content is contents_of(place).get(EVENTS) else [example]
                ):
                    assert faults(content["schema"], value) == []


def test_the_document_has_every_error_code() -> None:
    def codes(kind: type[ComfyDeployError]) -> set[str]:
        return {kind.code}.union(*map(codes, kind.__subclasses__()))

    of_client = {"server_unreachable", "run_failed", "run_cancelled"}
    specified = {
        code
        for fields in values(strict()["paths"], "properties")
        for code in fields.get("code", {}).get("enum", ())
    }
    known = codes(ComfyDeployError) | set(CODES)
    assert specified == known - of_client - {MethodNotAllowedError.code}


def request_models() -> set[type[Model]]:
    """Return the models of all requests, and those that are parts of them."""
    found: set[type[Model]] = set()
    waiting = [Model]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        waiting += subclasses
        found |= {kind for kind in subclasses if kind.__module__.split(".")[1] in OF_REQUESTS}
    return found


def test_every_field_of_a_request_says_what_it_means() -> None:
    specified = strict()["components"]["schemas"]
    models = [model for model in request_models() if model.__name__ in specified]
    assert len(models) > 10
    undescribed = [
        f"{model.__name__}.{name}"
        for model in models
        for name, schema in specified[model.__name__].get("properties", {}).items()
        if not schema.get("description")
    ]
    assert undescribed == []


def test_the_document_has_every_request_model() -> None:
    """A model that no operation names is a check that the specification does not describe."""
    used = {
        found.__name__
        for route in declared()
        for model in (route.declared.query, *(b.schema for b in route.bodies))
        if inspect.isclass(model)
        for found in model.__mro__
    }
    parts = {"CivitaiModel", "DeploymentRun", "ExtraData", "HuggingFaceModel"}
    assert {model.__name__ for model in request_models()} - used == parts
