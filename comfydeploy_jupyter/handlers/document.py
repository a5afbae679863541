"""Describes every route in OpenAPI 3.1, from what is declared at its method."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from .. import errors
from .._version import __version__
from ..compat.comfy_api import CODES, APIError
from ..errors import CloudError, ComfyDeployError, InvalidRequestError
from ..request_models import BATCH_ID, JOB_HASH, RUN_ID
from . import operations
from .comfy_api import ASSET_ID, APIErrorReply
from .route import IF_CHANGED, JSON, PREFIX, Content, Header, OpenReplyModel, Reply, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.json_schema import JsonSchemaValue


PATH_PARAMETERS = {
    "tail": ("The path of the page.", "pricing"),
    "run_id": ("The id of a run.", RUN_ID),
    "job_id": ("The id of a job, which is that of its run.", RUN_ID),
    "asset_id": ("The id of an asset.", ASSET_ID),
    "batch_id": ("The id of a batch.", BATCH_ID),
    "hash": ("The BLAKE3 of the content.", JOB_HASH),
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
SECURITY: list[dict[str, Any]] = [{"jupyterToken": []}, {"jupyterTokenInQuery": []}]
UNCHANGED = "The reply is the same as that of the client."
_OF_STATUS = {416: "The range is outside the file."}


_EVERYWHERE: tuple[type[ComfyDeployError], ...] = (
    InvalidRequestError,
    errors.UnauthorizedError,
    errors.StoreUnavailableError,
    errors.NoSpaceError,
    errors.UnsupportedPlatformError,
)
_WITH_BODY = (errors.InvalidJSONError, errors.TooLargeError)
_CODES_EVERYWHERE = (  # of the Comfy API
    *("unauthorized", "forbidden", "invalid_request", "internal_error"),
    *("store_unavailable", "no_space", "unsupported_platform"),
)
_CODES_WITH_BODY = ("invalid_json", "too_large")

EXAMPLES: tuple[ComfyDeployError, ...] = (
    errors.InvalidJSONError("The body is not JSON: Expecting value: line 1 column 1 (char 0)"),
    InvalidRequestError.of_field("timeout", "Input should be greater than 0"),
    errors.UnknownInputError(
        "inputs.Sky.colour: no input of the workflow has this name; did you mean Sky.color?",
        details={"field": "inputs.Sky.colour", "unknown": {"Sky.colour": ["Sky.color"]}},
    ),
    errors.InvalidInputError(
        "inputs.KSampler.steps: must be at most 10000, not 20000",
        details={
            "field": "inputs.3.steps",
            "invalid": {"3.steps": "must be at most 10000, not 20000"},
        },
    ),
    errors.PromptInvalidError(
        "Prompt has no outputs",
        details={
            "type": "prompt_no_outputs",
            "message": "Prompt has no outputs",
            "details": "",
            "extra_info": {},
        },
        extra={"node_errors": {}},
    ),
    errors.NoAPIKeyError("No ComfyDeploy API key is known: sign in, or send one"),
    errors.UnauthorizedError("Jupyter's token or login is needed for this"),
    errors.ForbiddenPathError.of_field("filename", "is outside the folders that may be read"),
    errors.OfflineError(
        "a.safetensors is not fetched: the setting `offline` forbids that",
        details={"setting": "offline"},
        extra={"hint": "Set c.ComfyDeploy.offline = False, or unset COMFYDEPLOY_OFFLINE."},
    ),
    errors.ForbiddenAPIURLError.of_field(
        "api_url", "https://example.com is not on allowed_api_urls"
    ),
    errors.NotFoundError.of_field("prompt_id", f"there is no run {RUN_ID!r}", prompt_id=RUN_ID),
    errors.ConflictError("No run executes on machine 'local'"),
    errors.TooLargeError(
        "The body has 70000000 bytes, the limit is 67108864",
        details={"size": 70000000, "limit": 67108864},
    ),
    errors.UnsupportedPlatformError(
        "The server extension of ComfyUI needs Linux or macOS and does not run on Windows"
    ),
    CloudError("ComfyDeploy at api.comfydeploy.com cannot be reached: Connection refused"),
    errors.TunnelFailedError(
        "There is no cloudflared on this machine", details={"reason": "no_binary", "log": []}
    ),
    errors.DockerFailedError(
        "The image could not be built", details={"log": ["ERROR: exit code 1"]}
    ),
    errors.ComfyUIUnavailableError(
        "No ComfyUI answers at http://127.0.0.1:8188",
        extra={"hint": "Start it, or set comfyui_path so that this server starts it."},
    ),
    errors.DockerUnavailableError("No Docker engine answers", extra={"path": "/home/ada/studio"}),
    errors.StoreUnavailableError(
        "Another process has locked the store /home/ada/comfydeploy.db",
        details={"reason": "locked", "path": "/home/ada/comfydeploy.db"},
        extra={"hint": "Try again; if the error remains, end the process that has the file open."},
    ),
    errors.RunTimeoutError(
        "The run has not ended in time; it continues", extra={"prompt_id": RUN_ID}
    ),
    errors.NoSpaceError("There is no space left on the disk for the snapshot studio"),
    ComfyDeployError("The snapshot was not finished because the server is stopping"),
)


class ErrorReply(OpenReplyModel):
    """Every error. Some codes have further keys, such as ``hint`` or ``prompt_id``.

    Errors of ``volume/…`` also have the message as ``detail``.
    """

    success: Literal[False]
    error: str
    code: str
    message: str
    details: dict[str, Any]


def document(base_url: str) -> bytes:
    """Return the description of the routes as JSON. It takes a second: call it in a thread."""
    return json.dumps(specification(base_url), separators=(",", ":")).encode()


def specification(base_url: str = "/") -> dict[str, Any]:
    routes = operations()
    models = _Models(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, models)
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
        "security": SECURITY,
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
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
    """The schemas of all types that the routes name."""

    def __init__(self, routes: Iterable[Route]) -> None:
        types = [ErrorReply, APIErrorReply, *_types(routes)]
        adapters: list[tuple[int, Any, TypeAdapter[Any]]] = [
            (number, "validation", TypeAdapter(type_)) for number, type_ in enumerate(types)
        ]
        found, definitions = TypeAdapter.json_schemas(
            adapters, by_alias=True, ref_template=REFERENCE, schema_generator=_Schema
        )
        self.components: dict[str, Any] = definitions["$defs"]
        self.of = {type_: found[number, "validation"] for number, type_ in enumerate(types)}
        for name, paths in _paths_of_bodies(routes).items():
            whose = f"Body of {' and '.join(f'``{path}``' for path in paths)}."
            self.components[name].setdefault("description", whose)

    def known(self, schema: Any) -> dict[str, Any]:
        """Return the JSON Schema of a model, or the given one."""
        return schema if isinstance(schema, dict) else self.components[schema.__name__]


def _paths_of_bodies(routes: Iterable[Route]) -> dict[str, list[str]]:
    """Return the paths that take each model; after the first one, without the method."""
    found: dict[str, list[str]] = {}
    for route in routes:
        path = route.path.removeprefix(f"/{PREFIX}/")
        for body in route.bodies:
            if not isinstance(body.schema, dict):
                known = found.setdefault(body.schema.__name__, [])
                known.append(path if known else f"{route.method} {path}")
    return found


def _types(routes: Iterable[Route]) -> Iterator[Any]:
    for route in routes:
        if route.query is not None:
            yield route.query
        contents = [content for reply in route.declared.replies for content in reply.contents]
        for content in (*route.bodies, *contents):
            if not isinstance(content.schema, dict):
                yield content.schema


def _operation(route: Route, models: _Models) -> dict[str, Any]:
    summary, text = route.texts
    headers = route.headers
    replies = route.declared.replies
    kept = route.method == "GET" and any(
        content.media_type == JSON for reply in replies for content in reply.contents
    )
    if kept:
        headers = (*headers, IF_CHANGED)
        replies = (*replies, Reply(UNCHANGED, status=304))
    described: dict[str, Any] = {
        "operationId": route.id,
        "tags": [route.tag],
        "summary": summary,
        "parameters": [*_parameters(route, headers, models)],
        "responses": {
            **{str(reply.status): _reply(reply, models) for reply in replies},
            **_errors(route, models),
        },
    }
    if text:
        described["description"] = text
    if route.bodies:
        needs = sorted(next((model.needs for model in route.models if model.needs), ()))
        described["requestBody"] = {
            "required": bool(needs)
            or any(models.known(body.schema).get("required") for body in route.bodies),
            "content": _contents(route.bodies, models),
        }
        if needs:
            content = described["requestBody"]["content"][JSON]
            choices = [{"required": [name]} for name in needs]
            content["schema"] = {"allOf": [content["schema"]], "anyOf": choices}
    if route.by_service:
        described["security"] = [*SECURITY, {"machineToken": []}]
    return described


def _parameters(
    route: Route, headers: Iterable[Header], models: _Models
) -> Iterator[dict[str, Any]]:
    text = {"type": "string"}
    for name, (description, example) in PATH_PARAMETERS.items():
        if f"{{{name}}}" in route.path:
            yield _parameter(name, "path", description, text, example, required=True)
    query = {} if route.query is None else models.known(route.query)
    for name, schema in query.get("properties", {}).items():
        shown = {k: v for k, v in schema.items() if k not in ("description", "examples")}
        checked = _without_null(shown)
        yield _parameter(
            name,
            "query",
            schema["description"],
            checked,
            schema["examples"][0],
            required=name in query.get("required", ()),
            **({"style": "deepObject"} if checked.get("type") == "object" else {}),
        )
    for header in headers:
        yield _parameter(header.name, "header", header.text, text, header.example)


def _parameter(
    name: str, place: str, text: str, schema: Any, example: Any, **more: Any
) -> dict[str, Any]:
    found = {"name": name, "in": place, "required": False, "description": text}
    return {**found, "schema": schema, "example": example, **more}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without null, which a query cannot contain."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if len(choices) == 1:
        return {**choices[0], **rest}
    return {"anyOf": choices, **rest} if choices else rest


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
        is_schema = isinstance(content.schema, dict)
        schema = content.schema if is_schema else models.of[content.schema]
        result[content.media_type] = {"schema": schema}
        example = content.shown_example
        if example is not None:
            result[content.media_type]["example"] = example
    return result


def _errors(route: Route, models: _Models) -> dict[str, Any]:
    """Return the replies for errors; also those of another server, if the route forwards them."""
    if route.has_own_errors:
        return {str(reply.status): _reply(reply, models) for reply in _own_errors(route)}
    result = {status: _error(status, kinds) for status, kinds in errors_of(route).items()}
    for reply in route.declared.replies:
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


def errors_of(route: Route) -> dict[str, list[type[ComfyDeployError]]]:
    """Return the errors that an operation can return, by their HTTP status.

    ``4XX`` stands for the status of ComfyDeploy, if the route returns this status.
    """
    kinds = [*_EVERYWHERE, *(_WITH_BODY if route.bodies else ()), *route.declared.errors]
    found: dict[str, list[type[ComfyDeployError]]] = {}
    for kind in dict.fromkeys(kinds):
        status, error = kind if isinstance(kind, tuple) else (kind.status, kind)
        found.setdefault(str(status), []).append(error)
    replies_of_others = any(reply.status == "default" for reply in route.declared.replies)
    if CloudError in kinds and not replies_of_others:
        found.setdefault("4XX", [])
        for code, known in found.items():
            if code.startswith("4"):
                known.append(CloudError)
    return dict(sorted(found.items()))


def sentence(kind: type[ComfyDeployError]) -> str:
    """Return the first line of the docstring of an error."""
    return (kind.__doc__ or "").partition("\n")[0].replace("``", "`")


def _own_errors(route: Route) -> Iterator[Reply]:
    """Yield the errors of a route of the Comfy API, by their status; a HEAD names them itself."""
    if route.method == "HEAD":
        return
    bodies = _CODES_WITH_BODY if route.bodies else ()
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*route.declared.errors, *bodies, *_CODES_EVERYWHERE)):
        by_status.setdefault(CODES[code][0], []).append(code)
    for status, codes in sorted(by_status.items()):
        schema = {
            "allOf": [{"$ref": REFERENCE.format(model=APIErrorReply.__name__)}],
            "properties": {"error": {"properties": {"code": {"enum": codes}}}},
        }
        example = APIError(codes[0], CODES[codes[0]][1]).to_reply()
        text = " ".join(f"`{code}`: {CODES[code][1]}" for code in codes)
        yield Reply(text, (Content(JSON, schema, example),), status)
