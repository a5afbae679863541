"""Declares routes: the decorators of the methods that handle them.

A route is declared once, at its method: `get`, `post` or `mount` mounts it, the parameters
``query`` and ``body`` of the method are read and checked before it is called, what it returns is
sent as JSON (with ``success``, if its first reply is a `Success`), its docstring is the text about
it, and `document` describes all of this in OpenAPI::

    @route.post("machine/delete", "deleteMachine")
    @route.replies(MachineDeleted, "The machine is deleted.")
    @route.errors(NotFoundError, ConflictError)
    async def delete_machine(self, body: MachineDelete) -> Any: ...
"""

from __future__ import annotations

import inspect
import re
import types
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from tornado import web

from ..errors import (
    CloudError,
    ComfyUIUnavailableError,
    ForbiddenAPIURLError,
    ForbiddenPathError,
    NoAPIKeyError,
    NotFoundError,
)
from ..request_models import CloudBody, CloudTarget, Keyed, Model, parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic.fields import FieldInfo

    from ..errors import ComfyDeployError

    Errors = tuple[type[ComfyDeployError], ...]

PREFIX = "comfyui-deploy"
JSON = "application/json"
EVENTS = "text/event-stream"
FORM = "multipart/form-data"
BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
TIME = "2025-11-24T09:30:00.000Z"  # an example

# Errors of routes that send requests to ComfyDeploy, read a file, or use a ComfyUI.
CLOUD: Errors = (NoAPIKeyError, ForbiddenAPIURLError, CloudError)
FILES: Errors = (ForbiddenPathError, NotFoundError, ComfyUIUnavailableError)
MACHINE: Errors = (NotFoundError, ComfyUIUnavailableError)

F = TypeVar("F", bound="Callable[..., Any]")
Large: TypeAlias = Any  # what a method returns that may have megabytes, such as graphs


class ReplyModel(BaseModel):
    """Base of the reply models; they only describe, so pydantic builds them when they are needed.

    The handlers send the values that the services return. The tests compare every reply with
    these models; a key that is not in its model is an error.
    """

    model_config = ConfigDict(defer_build=True)


class OpenReplyModel(ReplyModel):
    """Base of replies that may have further keys: those of ComfyUI, ComfyDeploy or a driver."""

    model_config = ConfigDict(extra="allow")


class Success(ReplyModel):
    """The reply of most routes that change something."""

    success: Literal[True]


@dataclass(frozen=True)
class Content:
    """One media type of a body or a reply; its schema is a type for pydantic or a JSON Schema.

    The example of a model may be a tuple: the names of the fields that the example has.
    """

    media_type: str
    schema: Any
    example: Any = ()

    @property
    def shown_example(self) -> Any:
        """The example, for a model made from the examples of its fields; None if there is none."""
        if not isinstance(self.example, tuple):
            return self.example
        return None if isinstance(self.schema, dict) else example_of(self.schema, *self.example)


@dataclass(frozen=True)
class Header:
    """A header that a request may have."""

    name: str
    text: str
    example: str


@dataclass(frozen=True)
class Link:
    """A possible next request: its operation, and values of the reply for its query and body.

    A value such as ``"$response.body#/id"`` is an OpenAPI runtime expression.
    """

    operation: str
    parameters: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """A reply that is not an error; the status ``default`` is that of another server."""

    text: str
    contents: tuple[Content, ...] = ()
    status: int | str = 200
    links: tuple[Link, ...] = ()


KEY = Header("X-ComfyDeploy-Token", "The API key of ComfyDeploy.", "cd-key")
IF_CHANGED = Header("If-None-Match", "304 if the reply still has this ETag.", '"a9f0"')
HANDSHAKE = (
    Header("Upgrade", "Makes the connection a WebSocket.", "websocket"),
    Header("Connection", "Makes the connection a WebSocket.", "Upgrade"),
    Header("Sec-WebSocket-Version", "The version of the protocol.", "13"),
    Header("Sec-WebSocket-Key", "16 bytes in base64.", "dGhlIHNhbXBsZSBub25jZQ=="),
)


@dataclass
class Declaration:
    """What the decorators of a method say; several routes may have the same method."""

    query: type[Model] | None = None
    bodies: tuple[Content, ...] = ()
    headers: tuple[Header, ...] = ()
    replies: tuple[Reply, ...] = ()
    errors: tuple[Any, ...] = ()  # types, some with another status; or codes of the Comfy API
    reading: dict[str, Any] = field(default_factory=dict)  # arguments of `Handler.json_body`


@dataclass(frozen=True)
class Route:
    """One method of one path; without an id it is not described.

    ``attributes`` are those of the handler class of the path, such as ``auth_action``.
    """

    method: str
    path: str  # below Jupyter's base URL
    id: str
    function: Callable[..., Any]
    declared: Declaration
    attributes: dict[str, Any]
    by_service: bool  # whether ComfyDeploy may call it with the machine's token
    kind: type[Any] | None = None  # the class of its method, whose `tag` is its section

    @property
    def pattern(self) -> str:
        """The regular expression for its path; ``tail`` has any number of parts."""
        return re.sub(r"{[a-z_]+}", "([^/]+)", self.path[1:].replace("{tail}", ".*"))

    @property
    def bodies(self) -> tuple[Content, ...]:
        """The bodies that it takes: none of a GET, whose method may handle a POST too."""
        return () if self.method in ("GET", "HEAD") else self.declared.bodies

    @property
    def models(self) -> list[type[Model]]:
        """The models of its query and its bodies."""
        known = [self.declared.query, *(content.schema for content in self.bodies)]
        return [one for one in known if isinstance(one, type)]

    @property
    def query(self) -> type[Model] | None:
        """The model of its query; a body that may be for ComfyDeploy need not say so itself."""
        in_body = any(issubclass(one, CloudBody) for one in self.models)
        return self.declared.query or (CloudTarget if in_body else None)

    @property
    def headers(self) -> tuple[Header, ...]:
        """The headers that it reads; a request for ComfyDeploy may have its key in one."""
        keyed = any(issubclass(one, (Keyed, CloudTarget)) for one in self.models)
        return (*self.declared.headers, KEY) if keyed else self.declared.headers

    @property
    def tag(self) -> str:
        """Its section in the documents."""
        return str(self.kind.tag) if self.kind is not None else ""

    @property
    def has_own_errors(self) -> bool:
        """Whether its errors have another form, that of the Comfy API."""
        return getattr(self.kind, "own_errors", False)

    @property
    def texts(self) -> tuple[str, str]:
        """What it does, in short and in more detail: the docstring of its method."""
        summary, _, text = inspect.cleandoc(self.function.__doc__ or "").partition("\n\n")
        return summary.removesuffix("."), " ".join(text.split())


def mount(
    methods: str, path: str, name: str = "", *, by_service: bool = False, **attributes: Any
) -> Callable[[F], F]:
    """Mount a method; ``path`` is below `PREFIX`, or with a slash below Jupyter's base URL.

    ``name`` is its id in OpenAPI; several methods, such as ``GET HEAD``, begin their ids with their
    names. ``attributes`` are set on the handler of the path: ``auth_action``, ``is_activity``,
    ``xsrf_on_get``.
    """

    def mark(function: F) -> F:
        declared, verbs = _declared(function), methods.split()
        whole = path if path.startswith("/") else f"/{PREFIX}/{path}"
        for verb in reversed(verbs):
            id_ = f"{verb.lower()}{name}" if name and len(verbs) > 1 else name
            mounted = Route(verb, whole, id_, function, declared, attributes, by_service)
            vars(function).setdefault("routes", []).append(mounted)
        return function

    return mark


get = partial(mount, "GET")
post = partial(mount, "POST")


def takes(
    *contents: Content,
    query: type[Model] | None = None,
    body: type[Model] | None = None,
    example: Any = (),
    headers: tuple[Header, ...] = (),
    **reading: bool,
) -> Callable[[F], F]:
    """Say more about the request than the parameters of the method do.

    ``query`` and ``body`` are models that the method reads itself, and ``contents`` other bodies.
    ``example`` is one of a JSON body, or the fields that it has; by default the required ones.
    ``reading`` has the arguments of `Handler.json_body`.
    """

    def mark(function: F) -> F:
        declared = _declared(function)
        declared.query = query or declared.query
        models = [body] if body is not None else [known.schema for known in declared.bodies]
        declared.bodies = (*(Content(JSON, model, example) for model in models), *contents)
        declared.headers, declared.reading = headers, reading
        return function

    return mark


def replies(
    content: Any, text: str, *links: Link, example: Any = (), status: int | str = 200
) -> Callable[[F], F]:
    """Add a reply, with a text about it.

    ``content`` is a type for one in JSON, `Content` of any kind, or None for one without a body.
    """
    match content:
        case None:
            contents: tuple[Content, ...] = ()
        case Content():
            contents = (content,)
        case tuple():
            contents = content
        case _:
            contents = (Content(JSON, content, example),)

    def mark(function: F) -> F:
        declared = _declared(function)
        # the lowest decorator is called first
        declared.replies = (Reply(text, contents, status, links), *declared.replies)
        return function

    return mark


def opens_socket(function: F) -> F:
    """Declare that a route is a WebSocket."""
    replies(None, "The version of the protocol must be 13.", status=426)(function)
    replies(None, "The socket is open.", status=101)(function)
    return takes(headers=HANDSHAKE)(function)


def errors(*kinds: Any) -> Callable[[F], F]:
    """Name the errors besides those of all routes; (status, type) is one with another status."""

    def mark(function: F) -> F:
        _declared(function).errors = kinds
        return function

    return mark


def _declared(function: Callable[..., Any]) -> Declaration:
    found: Declaration | None = vars(function).get("declared")
    if found is None:
        found = Declaration(query=_parameter(function, "query"))
        body = _parameter(function, "body")
        if body is not None:
            found.bodies = (Content(JSON, body),)
        vars(function)["declared"] = found
    return found


def _parameter(function: Callable[..., Any], name: str) -> Any:
    """Return the model of a parameter; None if the method has no such parameter."""
    annotation = function.__annotations__.get(name)
    return None if annotation is None else function.__globals__[annotation]


def routes_of(kind: type) -> list[Route]:
    """Return the routes of the methods of a class, in their order."""
    methods = [method for method in vars(kind).values() if hasattr(method, "routes")]
    # the lowest decorator is called first
    return [replace(one, kind=kind) for method in methods for one in reversed(method.routes)]


def handlers_of(kind: type[web.RequestHandler]) -> list[tuple[str, type[web.RequestHandler]]]:
    """Return the pattern and the handler of each path of a class."""
    by_pattern: dict[str, dict[str, Any]] = {}
    for one in routes_of(kind):
        members = by_pattern.setdefault(one.pattern, {"__module__": kind.__module__})
        members |= one.attributes
        members[one.method.lower()] = web.authenticated(_verb(one))
    return [(pattern, type(kind.__name__, (kind,), m)) for pattern, m in by_pattern.items()]


def _verb(one: Route) -> Callable[..., Any]:
    """Return the method of the handler; each verb has one of its own, as Jupyter needs it.

    It sends what the method of the route returns; one that returns None has sent its reply itself.
    """
    function, reading = one.function, one.declared.reading
    query, body = _parameter(function, "query"), _parameter(function, "body")
    returns = function.__annotations__["return"]
    first = [content.schema for reply in one.declared.replies for content in reply.contents][:1]
    succeeds = any(_is_model(kind) and issubclass(kind, Success) for kind in first)

    async def verb(self: Any, *parts: str) -> None:
        call = partial(function, self, *parts)
        if query is not None:
            call = partial(call, query=self.query(query))
        if body is not None:
            call = partial(call, body=parse(body, await self.json_body(**reading)))
        found = await call()
        if returns == "None":
            return
        if succeeds:
            found = {"success": True, **found}
        if returns == "Large":
            await self.reply_large(found)
        else:
            self.reply(found)

    return verb


def form(title: str, example: Any, **fields: dict[str, Any]) -> Content:
    """Return a form with a file; ``fields`` are JSON Schemas, such as a `form_field`."""
    schema = {"type": "object", "title": title, "required": ["file"], "properties": fields}
    return Content(FORM, schema, example)


def form_field(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": text, **more}


def example_of(type_: Any, *names: str) -> Any:
    """Return an example of a type, from the examples of its fields; ``names`` are those it has.

    Raises LookupError if a required field has no example, and its type does not suggest one.
    """
    kind, inner = get_origin(type_), get_args(type_)
    if kind in (Union, types.UnionType):
        return None if type(None) in inner else example_of(inner[0])
    if kind is Literal:
        return inner[0]
    if kind is dict:
        return {}
    if kind is list:
        return [example_of(inner[0])] if _is_model(inner[0]) else []
    if not _is_model(type_):
        raise LookupError(f"{type_} needs an example")
    fields = {info.alias or name: info for name, info in type_.model_fields.items()}
    shown = names or [
        name
        for name, info in fields.items()
        if info.is_required() or (info.examples and issubclass(type_, ReplyModel))
    ]
    return {name: _of_field(type_, name, fields[name]) for name in shown}


def _of_field(model: type[BaseModel], name: str, info: FieldInfo) -> Any:
    if info.examples:
        return info.examples[0]
    try:
        return example_of(info.annotation)
    except LookupError:
        raise LookupError(f"{model.__name__}.{name} needs an example") from None


def _is_model(type_: Any) -> bool:
    # for Python 3.10, list[int] is a class
    return get_origin(type_) is None and isinstance(type_, type) and issubclass(type_, BaseModel)
