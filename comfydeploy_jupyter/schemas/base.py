"""The base of all request models, the types that their fields share, and `parse`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from ..errors import InvalidRequestError
from ..util.jsons import RawJSON
from .examples import GRAPH, RUN_ID, UI_GRAPH, WORKFLOW_ID

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["CloudBody", "CloudTarget", "Keyed", "MachineQuery", "Model", "parse"]

# Any characters but those that end or escape a part of a URL, and not dots alone.
_ANY = r"[^\s/?#%\x00-\x1f\x7f]*"
_IDENTIFIER = rf"^{_ANY}[^\s/?#%.\x00-\x1f\x7f]{_ANY}$"
# One line of text that is not blank.
_LINE = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
FOLDER_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
HOSTNAME_PATTERN = (
    r"^(?i:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(?i:\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$"
)
EMAIL_PATTERN = r"^[^@\s]+@[^@\s]+$"
SHA256_PATTERN = r"^[0-9a-fA-F]{64}$"
# The error message for a value that does not match.
_EXPECTED = {
    _IDENTIFIER: "must be an id: without spaces and without / ? # %",
    _LINE: "must be one line of text, and not blank",
    FOLDER_PATTERN: "must be 1 to 64 letters, digits, dots, underscores and dashes",
    HOSTNAME_PATTERN: "must be the name of a host, such as comfy.example.com",
    r"^blake3:[0-9a-f]{64}$": "must be blake3: and 64 hexadecimal digits",
    EMAIL_PATTERN: "must be an email address",
    SHA256_PATTERN: "must be a SHA-256 in hexadecimal: 64 digits",
}


def _check_address(value: str) -> str:
    try:
        address = urlsplit(value)
        has_host = bool(address.hostname) and address.port != 0
        valid = not value or (address.scheme in ("http", "https") and has_host)
    except ValueError:  # also for a port that is no number, or too large
        valid = False
    if not valid or any(character.isspace() for character in value):
        raise ValueError("must be an http:// or https:// address")
    return value


def _keep_object(value: object, check: ValidatorFunctionWrapHandler) -> Any:
    """Return a parsed JSON object unchanged: checking and copying a large one takes long."""
    return value if type(value) in (dict, RawJSON) else check(value)


JSONObject = Annotated[dict[str, Any], WrapValidator(_keep_object)]
# An id that can be a part of a URL and of a header.
Identifier = Annotated[str, Field(min_length=1, max_length=200, pattern=_IDENTIFIER)]
# The id of a node; ComfyUI's API format allows any text.
NodeId = Annotated[str, Field(min_length=1, max_length=1000)]
Name = Annotated[str, Field(max_length=255, pattern=_LINE)]
# A machine, by its id or its name.
MachineRef = Name
# The largest numbers of labels and of characters in a label's name and value.
MOST_LABELS, LONGEST_NAME, LONGEST_VALUE = 16, 64, 512
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > MOST_LABELS:
        raise ValueError(f"has {len(labels)} labels, but at most {MOST_LABELS} are allowed")
    for name, value in labels.items():
        shown = f"{name[:LONGEST_NAME]!r}"
        if not 0 < len(name) <= LONGEST_NAME:
            raise ValueError(f"the name {shown} must have 1 to {LONGEST_NAME} characters")
        if len(value) > LONGEST_VALUE:
            raise ValueError(f"the value of {shown} has more than {LONGEST_VALUE} characters")
        if _NO_TEXT.search(name) or _NO_TEXT.search(value):
            raise ValueError(f"{shown}: control characters and unpaired surrogates are not allowed")
    return labels


# Labels of a run, by name.
Labels = Annotated[
    dict[str, str],
    AfterValidator(_check_labels),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MOST_LABELS,
            "propertyNames": {"minLength": 1, "maxLength": LONGEST_NAME},
            "additionalProperties": {"type": "string", "maxLength": LONGEST_VALUE},
        }
    ),
]
# An address that the server sends requests to; an empty one counts as not given.
Endpoint = Annotated[str, Field(max_length=8192), AfterValidator(_check_address)]
Version = Annotated[int, Field(ge=1)] | Literal["latest"]

# Fields that have the same meaning in several models. Each is optional.
MachineField = Annotated[
    MachineRef | None,
    Field(
        description="The id or name of a machine or a pool, or `auto`: all machines. A run of a"
        " pool or of `auto` waits for the machine that will probably finish it first; other routes"
        " use the machine with the least work. The default is `local`.",
        examples=["local"],
    ),
]
RunIdField = Annotated[Identifier | None, Field(description="The id of a run.", examples=[RUN_ID])]
GraphField = Annotated[
    JSONObject | None,
    Field(
        description="A graph in ComfyUI's API format (*Workflow → Export (API)* in the editor).",
        examples=[GRAPH],
    ),
]
UIGraphField = Annotated[
    JSONObject | None,
    Field(description="A graph as ComfyUI's editor saves it.", examples=[UI_GRAPH]),
]
WorkflowIdField = Annotated[
    Identifier | None, Field(description="The id of a stored workflow.", examples=[WORKFLOW_ID])
]
VersionField = Annotated[
    Version | None,
    Field(description="The number of a version, or `latest` (the default).", examples=["latest"]),
]
ClientIdField = Annotated[
    Identifier | None,
    Field(
        description="The client whose WebSocket receives the events of the run.",
        examples=["notebook-1"],
    ),
]
SearchField = Annotated[
    str,
    Field(
        max_length=1000,
        description="Return only items with these words in their names.",
        examples=["portrait"],
    ),
]
LimitField = Annotated[
    int, Field(ge=1, le=1000, description="The largest number of items to return.", examples=[10])
]
OffsetField = Annotated[
    int,
    Field(
        ge=0,
        le=10**9,
        description="The number of items to skip.",
        examples=[0],
    ),
]
ApiUrlField = Annotated[
    str | None,
    Field(
        max_length=2000,
        description="The address of ComfyDeploy's API. If it is given, the request is sent there.",
        examples=["https://api.comfydeploy.com"],
    ),
]


class Model(BaseModel):
    """Base of all request models: types are exact, unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)


class MachineQuery(Model):
    """Query of the routes that send requests to a ComfyUI."""

    machine: MachineField = None


LONGEST_KEY = 16 * 1024  # characters of a key or token


def is_key(value: object) -> bool:
    """Return whether a value can be a key or a token, which is sent in a header."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_KEY
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def _check_key(given: str) -> str:
    """Return a key without the white space around it, which files add; it may be empty."""
    key = given.strip()
    if key and not is_key(key):
        raise ValueError("must be one line of ASCII text without spaces")
    return key


class Keyed(Model):
    """A body that may contain an API key of ComfyDeploy."""

    cd_token: Annotated[str, AfterValidator(_check_key)] | None = Field(
        None,
        repr=False,
        description="An API key of ComfyDeploy; also allowed in the header X-ComfyDeploy-Token.",
    )
    token: Annotated[str, AfterValidator(_check_key)] | None = Field(
        None, repr=False, description="Another name for `cd_token`."
    )

    @property
    def given_key(self) -> str | None:
        """The API key in the body, if there is one."""
        return self.cd_token or self.token


class CloudTarget(Model):
    """The fields that send a request to the ComfyDeploy API instead of to the local store."""

    target: Literal["local", "cloud"] | None = Field(
        None,
        description="Whether the request is for the local store or for ComfyDeploy.",
        examples=["local"],
    )
    api_url: ApiUrlField = None

    @property
    def in_cloud(self) -> bool:
        """Whether the request is for ComfyDeploy."""
        return self.target == "cloud" or bool(self.api_url)

    @property
    def given_key(self) -> str | None:
        """None: a query must not contain an API key, because addresses are logged."""
        return None


class CloudBody(Keyed, CloudTarget):
    """`CloudTarget` in a body, which may contain an API key."""


M = TypeVar("M", bound=Model)


def parse(model: type[M], fields: dict[str, Any], *, lax: bool = False) -> M:
    """Return ``fields`` as a checked model.

    Parameters
    ----------
    model : type
        The request model.
    fields : dict
        A JSON object, or the arguments of a query.
    lax : bool
        Whether numbers and booleans may be given as text, as in a query.

    Raises
    ------
    InvalidRequestError
        The message names the first wrong field; ``details["errors"]`` has all of them.
    """
    try:
        return model.model_validate(fields, strict=False if lax else None)
    except ValidationError as fault:
        problems = [
            {"field": _field_of(error), "problem": _problem(error)} for error in fault.errors()
        ]
        first = problems[0]
        raise InvalidRequestError(
            f"{first['field']}: {first['problem']}",
            details={**first, "errors": problems},
        ) from None


def _field_of(error: ErrorDetails) -> str:
    """Return the name of the field; the types of a union, which pydantic adds, are left out."""
    return str(error["loc"][0]) if error["loc"] else "body"


def _problem(error: ErrorDetails) -> str:
    """Return the error as text, also if pydantic would show a regular expression."""
    pattern = error.get("ctx", {}).get("pattern")
    return _EXPECTED.get(str(pattern), error["msg"]).removeprefix("Value error, ")
