"""Compares the replies of a server with the specification."""

from __future__ import annotations

import copy
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from comfydeploy_jupyter.openapi.document import specification
from comfydeploy_jupyter.openapi.operation import ReplyModel

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = "urn:specification"


@lru_cache
def strict() -> dict[str, Any]:
    """Return the specification; its replies must not have further keys.

    Clients must accept keys that are added later; our own tests do not.
    """
    found = copy.deepcopy(specification())
    replies = _names_below(ReplyModel)
    for name, schema in found["components"]["schemas"].items():
        if name in replies:
            schema.setdefault("additionalProperties", False)
    return found


def _names_below(model: type) -> set[str]:
    return {model.__name__}.union(*map(_names_below, model.__subclasses__()))


def faults(schema: dict[str, Any], value: Any) -> list[str]:
    """Return the errors of a value as text; the schema is a part of the specification."""
    registry: Registry[Any] = Registry().with_resource(
        HERE, Resource.from_contents(strict(), default_specification=DRAFT202012)
    )
    text = json.dumps(schema).replace('"#/', f'"{HERE}#/')
    validator = Draft202012Validator(json.loads(text), registry=registry)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of each operation."""
    for path, item in strict()["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def find(method: str, path: str) -> dict[str, Any] | None:
    """Return the operation for a path below the base URL, or None."""
    for known, template, operation in operations():
        pattern = re.sub(r"\\{\w+\\}|\{\w+\}", ".*", template)
        if known == method.lower() and re.fullmatch(pattern, path):
            return operation
    return None


def check_reply(method: str, path: str, status: int, media_type: str, body: bytes) -> None:
    """Fail unless the specification has this reply.

    Parameters
    ----------
    method, path : str
        The request: its path is below the base URL, without the query. Methods and paths that are
        not in the specification are ignored.
    status, media_type, body : int, str, bytes
        The reply.
    """
    operation = find(method, unquote(path))
    if operation is None:
        return
    known = operation["responses"]
    reply = known.get(str(status)) or known.get(f"{status // 100}XX") or known.get("default")
    request = f"{method} {path}: {status}"
    assert reply is not None, f"{request} is not in the specification: {body[:500]!r}"
    contents = reply.get("content", {})
    kind = media_type.partition(";")[0].strip()
    content = contents.get(kind) or contents.get("*/*")
    assert content is not None or not contents, f"{request} has the type {kind}, not {[*contents]}"
    if kind == "application/json" and content is not None:
        found = faults(content["schema"], json.loads(body))
        assert not found, f"{request} is not as specified: {found}\n{body[:2000]!r}"
