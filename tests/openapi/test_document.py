"""The specification is valid, and agrees with the routes, the checks and the documents."""

import inspect
import re
import subprocess
import sys

import pytest
from openapi_spec_validator import validate
from tornado.web import RequestHandler

from comfydeploy_jupyter.compat.comfy_api import CODES
from comfydeploy_jupyter.errors import ComfyDeployError, MethodNotAllowedError
from comfydeploy_jupyter.handlers import all_routes
from comfydeploy_jupyter.handlers import operations as declared
from comfydeploy_jupyter.handlers.base import NotFound
from comfydeploy_jupyter.handlers.document import document, specification
from comfydeploy_jupyter.request_models import Model
from tests.helpers.jupyter import faults, operations, strict
from tests.helpers.processes import REPOSITORY

OTHER_SPELLINGS = {"/comfyui", "/comfyui/api/ws"}  # of a path in the specification
OF_REQUESTS = ("handlers", "request_models")
CALLED = ("get", "head", "post", "put", "patch", "delete")
BYTES = {"type": "string", "format": "binary"}


def values(part, name):
    """Yield the values of a key at any depth."""
    if isinstance(part, list):
        for item in part:
            yield from values(item, name)
    elif isinstance(part, dict):
        for key, item in part.items():
            if key == name:
                yield item
            yield from values(item, name)


def events(text):
    """Return the events of a stream."""
    blocks = text.strip().split("\n\n")
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


@pytest.mark.slow
def test_it_is_openapi():
    validate(specification())


def test_it_says_where_the_routes_are():
    assert specification("/a%40b/")["servers"] == [{"url": "/a%40b"}]
    assert specification("/")["servers"] == [{"url": "/"}]
    assert document("/") == document("/") != document("/other/")


def test_it_has_every_route_with_its_methods():
    routes = {f"/{pattern}": kind for pattern, kind in all_routes()}
    found = {}
    for path, item in strict()["paths"].items():
        address = path.replace("{tail}", "a/b")
        pattern = next((known for known in routes if re.fullmatch(known, address)), None)
        assert pattern is not None, path
        found[pattern] = set(item)
    for pattern, kind in routes.items():
        if pattern in OTHER_SPELLINGS or issubclass(kind, NotFound):
            assert pattern not in found
            continue
        methods = {m for m in CALLED if getattr(kind, m) is not getattr(RequestHandler, m)}
        assert found[pattern] == methods, pattern
    for method, path, operation in operations():
        assert method not in ("get", "head") or "requestBody" not in operation, path


@pytest.mark.slow
def test_the_tables_of_the_docs_are_up_to_date():
    script = REPOSITORY / "scripts" / "route_tables.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_every_body_and_parameter_has_a_valid_example():
    known = strict()["components"]["examples"]
    for method, path, operation in operations():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        places = *operation["parameters"], *bodies, *operation["responses"].values()
        contents = [
            content
            for place in places
            for content in (
                [("", place)] if "schema" in place else place.get("content", {}).items()
            )
        ]
        for media_type, content in contents:
            if content["schema"] == BYTES:
                continue
            examples = [content["example"]] if "example" in content else []
            named = [example["$ref"] for example in content.get("examples", {}).values()]
            examples += [known[name.rpartition("/")[2]]["value"] for name in named]
            assert examples, (method, path, content)
            for example in examples:
                assert example is not None, (method, path, content)
                parts = events(example) if media_type == "text/event-stream" else [example]
                for part in parts:
                    assert faults(content["schema"], part) == [], (method, path)


def test_it_has_every_error_code():
    def codes(kind):
        return {kind.code}.union(*map(codes, kind.__subclasses__()))

    of_client = {"server_unreachable", "run_failed", "run_cancelled"}
    specified = {
        code
        for fields in values(strict()["paths"], "properties")
        for code in fields.get("code", {}).get("enum", ())
    }
    known = codes(ComfyDeployError) | set(CODES)
    assert specified == known - of_client - {MethodNotAllowedError.code}


def request_models():
    """Return the models of all requests, and those that are parts of them."""
    found = set()
    waiting = [Model]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        waiting += subclasses
        found |= {kind for kind in subclasses if kind.__module__.split(".")[1] in OF_REQUESTS}
    return found


def test_every_field_of_a_request_says_what_it_means():
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


def test_it_has_every_request_model():
    """A model that no operation names is a check that the specification does not describe."""
    used = {
        found.__name__
        for route in declared()
        for model in (route.declared.query, *(body.schema for body in route.bodies))
        if inspect.isclass(model)
        for found in model.__mro__
    }
    used |= strict()["components"]["schemas"].keys()
    # of runs that the server makes itself, and of a message on a socket
    elsewhere = {"DeploymentRun", "PointRun", "Watch"}
    assert {model.__name__ for model in request_models()} - used == elsewhere
