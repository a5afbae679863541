"""The classes that describe the request, replies and errors of each method of a route."""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict

from ..errors import (
    CloudError,
    ComfyUIUnavailableError,
    ForbiddenAPIURLError,
    ForbiddenPathError,
    NoAPIKeyError,
    NotFoundError,
)

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from .. import schemas
    from ..errors import ComfyDeployError

    Errors = tuple[type[ComfyDeployError], ...]

JSON = "application/json"
EVENTS = "text/event-stream"
FORM = "multipart/form-data"
BYTES = "application/octet-stream"
BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
TIME = "2025-11-24T09:30:00.000Z"

# Errors of routes that send requests to ComfyDeploy, read a file, or use a ComfyUI.
CLOUD: Errors = (NoAPIKeyError, ForbiddenAPIURLError, CloudError)
FILES: Errors = (ForbiddenPathError, NotFoundError, ComfyUIUnavailableError)
MACHINE: Errors = (NotFoundError, ComfyUIUnavailableError)


class ReplyModel(BaseModel):
    """Base of the reply models.

    The handlers send the values that the services return. The tests compare every reply with
    these models; a key that is not in its model is an error.
    """


class OpenReplyModel(ReplyModel):
    """Base of replies that may have further keys: those of ComfyUI, ComfyDeploy or a driver."""

    model_config = ConfigDict(extra="allow")


class Success(ReplyModel):
    """The reply of most routes that change something."""

    success: Literal[True]


@dataclass(frozen=True)
class Content:
    """One media type of a body or a reply.

    Attributes
    ----------
    media_type : str
        Such as ``application/json``.
    schema : type or dict
        A model or another type with a pydantic schema; or a JSON Schema.
    example : object
        An example value.
    """

    media_type: str
    schema: Any
    example: Any = None


@dataclass(frozen=True)
class Header:
    """A header that a request may have."""

    name: str
    text: str
    example: str


@dataclass(frozen=True)
class Link:
    """A possible next request, with values of the reply.

    Attributes
    ----------
    operation : str
        Id of the operation.
    parameters, body : dict
        Its query and fields of its body; a value such as ``"$response.body#/id"`` is an OpenAPI
        runtime expression.
    """

    operation: str
    parameters: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """A reply that is not an error.

    Attributes
    ----------
    text : str
        The condition under which it is sent.
    contents : tuple of Content
        Its media types; none for an empty body.
    status : int or str
        ``default``: the status of another server.
    links : tuple of Link
        Possible next requests.
    """

    text: str
    contents: tuple[Content, ...] = ()
    status: int | str = 200
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one route.

    Attributes
    ----------
    method, path : str
        ``path`` is below Jupyter's base URL.
    id : str
        Its name in generated clients.
    tag : str
        The section of the documentation.
    summary, text : str
        A short and a long description.
    replies : tuple of Reply
    query : type, optional
        Model of its query.
    headers : tuple of Header
        Headers that have a meaning besides Jupyter's own.
    bodies : tuple of Content
        Possible bodies.
    needs : tuple of str
        Fields of a JSON body of which at least one is required.
    errors : tuple of type
        Its errors besides those of all routes.
    errors_by_status : tuple of (int, type)
        Errors with another status than that of their class.
    by_service : bool
        Whether ComfyDeploy may call it with the machine's token.
    own_errors : bool
        Whether its errors are among `replies`, because they have another form.
    """

    method: str
    path: str
    id: str
    tag: str
    summary: str
    text: str = ""
    query: type[schemas.Model] | None = None
    headers: tuple[Header, ...] = ()
    bodies: tuple[Content, ...] = ()
    needs: tuple[str, ...] = ()
    replies: tuple[Reply, ...]
    errors: Errors = ()
    errors_by_status: tuple[tuple[int, type[ComfyDeployError]], ...] = ()
    by_service: bool = False
    own_errors: bool = False


OPEN = (
    Reply("The socket is open.", status=101),
    Reply("The version of the protocol must be 13.", status=426),
)
KEY = Header("X-ComfyDeploy-Token", "The API key of ComfyDeploy.", "cd-key")
HANDSHAKE = (
    Header("Upgrade", "Makes the connection a WebSocket.", "websocket"),
    Header("Connection", "Makes the connection a WebSocket.", "Upgrade"),
    Header("Sec-WebSocket-Version", "The version of the protocol.", "13"),
    Header("Sec-WebSocket-Key", "16 bytes in base64.", "dGhlIHNhbXBsZSBub25jZQ=="),
)


def json_reply(
    schema: Any, text: str, *links: Link, example: Any = None, status: int = 200
) -> Reply:
    """Return a reply in JSON; its example is that of its model unless ``example`` is given."""
    shown = example_of(schema) if example is None else example
    return Reply(text, (Content(JSON, schema, shown),), status, links)


def json_body(model: type[schemas.Model], *names: str, example: Any = None) -> tuple[Content, ...]:
    """Return a body in JSON, whose example has these fields, by default the required ones."""
    return (Content(JSON, model, _object(model, names) if example is None else example),)


def example_of(type_: Any) -> Any:
    """Return an example of a type, from the examples of its fields.

    Raises
    ------
    LookupError
        If a required field has no example, and its type does not suggest one.
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
    if _is_model(type_):
        return _object(type_, ())
    raise LookupError(f"{type_} needs an example")


def _object(model: type[BaseModel], names: tuple[str, ...]) -> dict[str, Any]:
    fields = {info.alias or name: info for name, info in model.model_fields.items()}
    shown = names or [
        name
        for name, info in fields.items()
        if info.is_required() or (info.examples and issubclass(model, ReplyModel))
    ]
    return {name: _of_field(model, name, fields[name]) for name in shown}


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
