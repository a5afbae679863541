"""The OpenAPI 3.1 document, from the operations and their models."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from .._version import __version__
from ..schemas.comfy_api import HASH
from ..schemas.examples import RUN_ID
from . import (
    cloud,
    comfy_api,
    comfyui_page,
    deployments,
    files,
    graphs,
    machines,
    runs,
    snapshots,
    status,
    transfers,
    tunnel,
    workflows,
)
from .errors import EXAMPLES, ErrorReply, errors_of, sentence
from .operation import JSON, Content, Header, Operation, Reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaValue

    from ..errors import ComfyDeployError

OPERATIONS: tuple[Operation, ...] = (
    *runs.OPERATIONS,
    *deployments.OPERATIONS,
    *files.OPERATIONS,
    *transfers.OPERATIONS,
    *graphs.OPERATIONS,
    *workflows.OPERATIONS,
    *status.OPERATIONS,
    *machines.OPERATIONS,
    *snapshots.OPERATIONS,
    *tunnel.OPERATIONS,
    *cloud.OPERATIONS,
    *comfy_api.OPERATIONS,
    *comfyui_page.OPERATIONS,
)
PATH_PARAMETERS = {
    "tail": ("The path of the page.", "pricing"),
    "run_id": ("The id of a run.", RUN_ID),
    "job_id": ("The id of a job, which is that of its run.", RUN_ID),
    "asset_id": ("The id of an asset.", comfy_api.ASSET_ID),
    "hash": ("The BLAKE3 of the content.", HASH),
}
VERSION = "3.1.0"
REFERENCE = "#/components/schemas/{model}"
ABOUT = """\
ComfyUI under Jupyter's own address: run, watch and cancel workflows, store them with their
versions, move files and models, and manage the machines that run them.

Every route needs Jupyter's authentication, and permission for the resource `comfydeploy`. With a
login cookie, a POST, `auth-response` and the WebSocket also need the value of the cookie `_xsrf`,
in the header `X-XSRFToken` or as `_xsrf` in the query. A field that is null counts as not given;
unknown fields are ignored.
"""
UNCHANGED = "The reply is the same as that of the client."
UNCHANGED_HEADER = Header("If-None-Match", "304 if the reply still has this ETag.", '"a9f0"')
_OF_STATUS = {416: "The range is outside the file."}


class Document(NamedTuple):
    """A document in the form in which it is sent.

    Attributes
    ----------
    text : bytes
        JSON.
    etag : str
        Changes with the text; in quotes, as in the header.
    """

    text: bytes
    etag: str


def document(base_url: str) -> Document:
    """Return the description of the routes as JSON. It takes a second: call it in a thread.

    Parameters
    ----------
    base_url : str
        Jupyter's base URL, percent-encoded.
    """
    text = json.dumps(specification(base_url), separators=(",", ":")).encode()
    return Document(text, f'"{hashlib.sha256(text).hexdigest()[:32]}"')


def specification(base_url: str = "/") -> dict[str, Any]:
    """Return the description of the routes as an object."""
    models = _Models(OPERATIONS)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, models)
    schemas_used = _reachable(paths, models.components)
    return {
        "openapi": VERSION,
        "info": {
            "title": "comfydeploy-jupyter",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": base_url.rstrip("/") or "/"}],
        "security": [{"jupyterToken": []}, {"jupyterTokenInQuery": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(o.tag for o in OPERATIONS)],
        "paths": paths,
        "components": {
            "schemas": schemas_used,
            "examples": {
                error.code: {"summary": sentence(type(error)), "value": error.to_reply()}
                for error in EXAMPLES
            },
            "securitySchemes": {
                "jupyterToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Jupyter's token; also as `Authorization: token …`.",
                },
                "jupyterTokenInQuery": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "token",
                    "description": "Jupyter's token, for links.",
                },
                "machineToken": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The setting `machine_token`, in base64: for ComfyDeploy.",
                },
            },
        },
    }


def _reachable(paths: Any, components: dict[str, Any]) -> dict[str, Any]:
    """Return the schemas that the paths refer to; models of queries are shown as parameters."""
    found: set[str] = set()
    waiting = [paths]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            waiting.extend(part.values())
            name = str(part.get("$ref", "")).removeprefix(REFERENCE.format(model=""))
            if name in components and name not in found:
                found.add(name)
                waiting.append(components[name])
    return {name: schema for name, schema in components.items() if name in found}


class _Schema(GenerateJsonSchema):
    """The schema from pydantic, without titles and defaults that add no information."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: pydantic's title only repeats the name of the field."""
        return False

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        """Leave out the default null, which only means that a field is optional."""
        found = super().default_schema(schema)
        if found.get("default", ...) is None:
            del found["default"]
        return found


class _Models:
    """The schemas of all types that the operations name.

    Attributes
    ----------
    components : dict
        By name.
    """

    def __init__(self, operations: Iterable[Operation]) -> None:
        types = [ErrorReply, comfy_api.APIErrorReply, *_types(operations)]
        adapters: list[tuple[int, Any, TypeAdapter[Any]]] = [
            (number, "validation", TypeAdapter(type_)) for number, type_ in enumerate(types)
        ]
        found, definitions = TypeAdapter.json_schemas(
            adapters, by_alias=True, ref_template=REFERENCE, schema_generator=_Schema
        )
        self.components: dict[str, Any] = definitions["$defs"]
        self._found = [(type_, found[number, "validation"]) for number, type_ in enumerate(types)]

    def of(self, type_: Any) -> dict[str, Any]:
        """Return the schema of a type, or the reference to it."""
        return next(schema for known, schema in self._found if known is type_)

    def properties(self, model: type[BaseModel]) -> dict[str, Any]:
        """Return the fields of a model."""
        found: dict[str, Any] = self.components[model.__name__].get("properties", {})
        return found

    def required(self, model: type[BaseModel]) -> list[str]:
        """Return the names of the required fields of a model."""
        found: list[str] = self.components[model.__name__].get("required", [])
        return found


def _types(operations: Iterable[Operation]) -> Iterator[Any]:
    for operation in operations:
        if operation.query is not None:
            yield operation.query
        for content in (*operation.bodies, *(c for r in operation.replies for c in r.contents)):
            if not isinstance(content.schema, dict):
                yield content.schema


def _operation(operation: Operation, models: _Models) -> dict[str, Any]:
    headers = operation.headers
    replies = operation.replies
    kept = operation.method == "get" and any(
        content.media_type == JSON for reply in replies for content in reply.contents
    )
    if kept:
        headers = (*headers, UNCHANGED_HEADER)
        replies = (*replies, Reply(UNCHANGED, status=304))
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(operation),
            *_query_parameters(operation, models),
            *map(_header_parameter, headers),
        ],
        "responses": {
            **{str(reply.status): _reply(reply, models) for reply in replies},
            **({} if operation.own_errors else _errors(operation, models)),
        },
    }
    if operation.text:
        described["description"] = operation.text
    if operation.bodies:
        described["requestBody"] = {
            "required": bool(operation.needs)
            or any(_needs_something(body, models) for body in operation.bodies),
            "content": _contents(operation.bodies, models),
        }
        if operation.needs:
            content = described["requestBody"]["content"][JSON]
            choices = [{"required": [name]} for name in operation.needs]
            content["schema"] = {"allOf": [content["schema"]], "anyOf": choices}
    if operation.by_service:
        described["security"] = [
            {"jupyterToken": []},
            {"jupyterTokenInQuery": []},
            {"machineToken": []},
        ]
    return described


def _needs_something(body: Content, models: _Models) -> bool:
    if isinstance(body.schema, dict):
        return bool(body.schema.get("required"))
    return bool(models.required(body.schema))


def _path_parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for name, (text, example) in PATH_PARAMETERS.items():
        if f"{{{name}}}" in operation.path:
            yield {
                "name": name,
                "in": "path",
                "required": True,
                "description": text,
                "schema": {"type": "string"},
                "example": example,
            }


def _query_parameters(operation: Operation, models: _Models) -> Iterator[dict[str, Any]]:
    if operation.query is None:
        return
    for name, schema in models.properties(operation.query).items():
        texts = ("description", "examples")
        shown = {key: value for key, value in schema.items() if key not in texts}
        checked = _without_null(shown)
        yield {
            "name": name,
            "in": "query",
            "required": name in models.required(operation.query),
            "description": schema["description"],
            "schema": checked,
            "example": schema["examples"][0],
            **({"style": "deepObject"} if checked.get("type") == "object" else {}),
        }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without null, which a query cannot contain."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if len(choices) == 1:
        return {**choices[0], **rest}
    return {"anyOf": choices, **rest} if choices else rest


def _header_parameter(header: Header) -> dict[str, Any]:
    return {
        "name": header.name,
        "in": "header",
        "required": False,
        "description": header.text,
        "schema": {"type": "string"},
        "example": header.example,
    }


def _reply(reply: Reply, models: _Models) -> dict[str, Any]:
    result: dict[str, Any] = {"description": reply.text}
    if reply.contents:
        result["content"] = _contents(reply.contents, models)
    if reply.links:
        result["links"] = {
            link.operation: {
                "operationId": link.operation,
                **({"parameters": link.parameters} if link.parameters else {}),
                **({"requestBody": link.body} if link.body else {}),
            }
            for link in reply.links
        }
    return result


def _contents(contents: Iterable[Content], models: _Models) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for content in contents:
        schema = content.schema if isinstance(content.schema, dict) else models.of(content.schema)
        result[content.media_type] = {"schema": schema}
        if content.example is not None:
            result[content.media_type]["example"] = content.example
    return result


def _errors(operation: Operation, models: _Models) -> dict[str, Any]:
    """Return the replies for errors; also those of another server, if the route forwards them."""
    result = {status: _error(status, kinds) for status, kinds in errors_of(operation).items()}
    for reply in operation.replies:
        if reply.status == "default":
            for error in result.values():
                ours = error["content"][JSON]
                theirs = {"description": "The response of the site."}
                ours["schema"] = {"anyOf": [ours["schema"], theirs]}
                error["content"] |= _contents(reply.contents, models)
    return result


def _error(status: str, kinds: list[type[ComfyDeployError]]) -> dict[str, Any]:
    codes = sorted({kind.code for kind in kinds})
    text = " ".join(dict.fromkeys(sentence(kind) for kind in kinds))
    return {
        "description": _OF_STATUS.get(int(status), text) if status.isdecimal() else text,
        "content": {
            JSON: {
                "schema": {
                    "allOf": [{"$ref": REFERENCE.format(model=ErrorReply.__name__)}],
                    "properties": {"code": {"enum": codes}},
                },
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
            }
        },
    }
