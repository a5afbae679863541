"""The models of requests: their base, the fields that they share, and those that services take.

The models that only a handler reads stand beside it. Each field has its type, its bounds, its
meaning, and an example if it needs one of its own: the checks, ``openapi.json`` and the tables of
``docs/routes.md`` come from it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar, get_args
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
    model_validator,
)

from .errors import InvalidRequestError
from .util.jsons import RawJSON
from .util.secrets import is_key

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

RUN_ID = "8ffd43a1-3ba2-4e02-9d9d-1a45b2f9b6f5"
BATCH_ID = "0b0f7a0e-5a0c-4d7e-8f57-5b8a7f6c2f11"
WORKFLOW_ID = "5b0c7a30-5b39-4be7-9d3c-1f5f2f0f4f5e"
TRANSFER_ID = "d41d8cd98f00b204"
ACCOUNT_KEY = "comfyui-0123456789abcdef"
GRAPH: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "example"}},
}
UI_GRAPH: dict[str, Any] = {
    "last_node_id": 2,
    "last_link_id": 1,
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "pos": [0, 0],
            "size": [270, 130],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            "properties": {},
            "widgets_values": [64, 64, 1, 255],
        },
        {
            "id": 2,
            "type": "SaveImage",
            "pos": [320, 0],
            "size": [270, 270],
            "flags": {},
            "order": 1,
            "mode": 0,
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
            "outputs": [],
            "properties": {},
            "widgets_values": ["example"],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    "groups": [],
    "config": {},
    "extra": {},
    "version": 0.4,
}

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
MAX_LABELS, MAX_LABEL_NAME, MAX_LABEL_VALUE = 16, 64, 512
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > MAX_LABELS:
        raise ValueError(f"has {len(labels)} labels, but at most {MAX_LABELS} are allowed")
    for name, value in labels.items():
        shown = f"{name[:MAX_LABEL_NAME]!r}"
        if not 0 < len(name) <= MAX_LABEL_NAME:
            raise ValueError(f"the name {shown} must have 1 to {MAX_LABEL_NAME} characters")
        if len(value) > MAX_LABEL_VALUE:
            raise ValueError(f"the value of {shown} has more than {MAX_LABEL_VALUE} characters")
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
            "maxProperties": MAX_LABELS,
            "propertyNames": {"minLength": 1, "maxLength": MAX_LABEL_NAME},
            "additionalProperties": {"type": "string", "maxLength": MAX_LABEL_VALUE},
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
GraphField = Annotated[
    JSONObject | None,
    Field(
        description="A graph in ComfyUI's API format (*Workflow → Export (API)* in the editor). It"
        " may be text with JSON, so that a browser does not round its large integers.",
        examples=[GRAPH],
    ),
]
UIGraphField = Annotated[
    JSONObject | None,
    Field(
        description="A graph as ComfyUI's editor saves it. It may be text with JSON.",
        examples=[UI_GRAPH],
    ),
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
    int, Field(ge=0, le=10**9, description="The number of items to skip.", examples=[0])
]
ApiUrlField = Annotated[
    str | None,
    Field(
        max_length=2000,
        description="The address of ComfyDeploy's API. If it is given, the request is sent there.",
        examples=["https://api.comfydeploy.com"],
    ),
]


def optional(description: str, *examples: Any, default: Any = None, **bounds: Any) -> Any:
    """Return the field of a model that may be left out."""
    return Field(default, description=description, examples=[*examples] or None, **bounds)


def required(description: str, *examples: Any, **bounds: Any) -> Any:
    """Return the field of a model that is needed."""
    return Field(description=description, examples=[*examples] or None, **bounds)


class Model(BaseModel):
    """Base of all request models: types are exact, unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)
    needs: ClassVar[frozenset[str]] = frozenset()  # fields of a body of which one is required


class MachineQuery(Model):
    """Query of the routes that send requests to a ComfyUI."""

    machine: MachineField = None


def _check_key(given: str) -> str:
    """Return a key without the white space around it, which files add; it may be empty."""
    key = given.strip()
    if key and not is_key(key):
        raise ValueError("must be one line of ASCII text without spaces")
    return key


class Keyed(Model):
    """A body that may contain an API key of ComfyDeploy."""

    cd_token: Annotated[str, AfterValidator(_check_key)] | None = optional(
        "An API key of ComfyDeploy; also allowed in the header X-ComfyDeploy-Token.", repr=False
    )
    token: Annotated[str, AfterValidator(_check_key)] | None = optional(
        "Another name for `cd_token`.", repr=False
    )

    @property
    def given_key(self) -> str | None:
        """The API key in the body, if there is one."""
        return self.cd_token or self.token


class CloudTarget(Model):
    """The fields that send a request to the ComfyDeploy API instead of to the local store."""

    target: Literal["local", "cloud"] | None = optional(
        "Whether the request is for the local store or for ComfyDeploy.", "local"
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
    """Return the fields of a JSON object, or of a query with ``lax``, as a checked model.

    With ``lax``, numbers and booleans may be given as text. The message of the error names the
    first wrong field; ``details["errors"]`` has all of them.
    """
    try:
        return model.model_validate(fields, strict=False if lax else None)
    except ValidationError as exc:
        problems = [
            {"field": _field_of(error), "problem": _problem(error)} for error in exc.errors()
        ]
        first = problems[0]
        raise InvalidRequestError(
            f"{first['field']}: {first['problem']}", details={**first, "errors": problems}
        ) from None


def _field_of(error: ErrorDetails) -> str:
    """Return the name of the field; the types of a union, which pydantic adds, are left out."""
    return str(error["loc"][0]) if error["loc"] else "body"


def _problem(error: ErrorDetails) -> str:
    """Return the error as text, also if pydantic would show a regular expression."""
    pattern = error.get("ctx", {}).get("pattern")
    return _EXPECTED.get(str(pattern), error["msg"]).removeprefix("Value error, ")


# -- runs

Status = Literal["not-started", "queued", "running", "uploading", "success", "failed", "cancelled"]


class ExtraData(Model):
    """Data for ComfyUI besides the graph; other fields are not forwarded.

    The names are those of ComfyUI's ``POST /prompt``.
    """

    api_key_comfy_org: str | None = optional(
        "An API key of a Comfy account.", ACCOUNT_KEY, repr=False
    )
    auth_token_comfy_org: str | None = optional(
        "The token of a browser that is signed in to a Comfy account.", repr=False
    )

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, fields: Any) -> Any:
        """Raise if a key is wrong; the message names the field, but not its value."""
        for name in cls.model_fields if isinstance(fields, dict) else ():
            key = fields.get(name)
            if key and not is_key(key):
                raise ValueError(f"{name} must be one line of ASCII text without spaces")
        return fields

    @property
    def keys(self) -> dict[str, str]:
        """The keys that were given, by their names."""
        return {name: key for name, key in self.model_dump().items() if key}


class GraphRequest(Model):
    """A graph in one of its formats, or a stored workflow."""

    needs = frozenset({"workflow_api", "workflow", "workflow_id"})

    workflow_api: GraphField = None
    workflow: UIGraphField = None
    workflow_id: WorkflowIdField = None
    version: VersionField = None
    machine: MachineField = None


class RunTemplate(GraphRequest):
    """What runs, and with what values; exactly one source of the graph is needed.

    ``workflow`` may be given besides another source: ComfyUI then writes it into its outputs. A
    field that is null counts as not given.
    """

    needs = GraphRequest.needs | {"workflow_api_raw"}

    workflow_api_raw: JSONObject | None = optional(
        "The graph in a request in the form of the ComfyUI node, with the defaults of that node:"
        " the reply does not wait for the end, unknown inputs are ignored, and seeds are new unless"
        " the editor's control-after-generate is `fixed`.",
        GRAPH,
    )
    inputs: JSONObject | None = optional(
        "Values by name. A name is an external input's `input_id`, `<node id>.<input>`,"
        " `<node title>.<input>`, an input name that only one node has, or the title of a node"
        " that has one value. A new option of a"
        " dynamic combo replaces the inputs of the old option; inputs without a value get their"
        ' defaults (`{"5.format": "opus", "5.format.quality": "96k"}`). null removes an input of'
        " a group with a variable number of inputs. A group of rows takes a list with an object for"
        ' each row (`{"LoRA.loras": [{"lora_name": "a.safetensors"}]}`), which replaces its rows;'
        " fields without a value get their defaults. If the value of an input of type `IMAGE`,"
        " `VIDEO` or `AUDIO` is the name of a file in `input/`, a node that loads it is added. An"
        ' output of another run, also of one that has not ended, is written `{"$output": {"run":'
        ' "<id>", "file": "SaveImage.images[0]"}}`: see *Outputs of other runs*.',
        {"1.width": 128},
    )
    cancel_with: bool | None = optional(
        "Whether the run is cancelled, too, if a run is cancelled whose output it needs; by default"
        " it fails then.",
        True,
    )
    seed_mode: Literal["saved", "auto", "random"] | None = optional(
        "`saved`: unchanged seeds; `auto` (the default): according to the editor's"
        " control-after-generate; `random`: new seeds, within the bounds of the node if the node"
        " definitions of ComfyUI are available.",
        "random",
    )
    strict_inputs: bool | None = optional(
        "Whether unknown inputs are an error (the default) or ignored.", True
    )
    preview_method: Literal["default", "none", "auto", "latent2rgb", "taesd"] | None = optional(
        "The method by which ComfyUI 0.33 makes previews in this run; older versions ignore it. The"
        " default is that of ComfyUI's configuration.",
        "auto",
    )
    outputs: Annotated[list[NodeId], Field(min_length=1)] | None = optional(
        "The ids of the output nodes to execute, by default all. Nodes that only other output nodes"
        " need are not executed.",
        ["2"],
    )

    @property
    def node_form(self) -> bool:
        """Whether the request has the form of the ComfyUI node, with its own defaults."""
        return self.workflow_api_raw is not None


class RunRequest(Keyed, RunTemplate):
    """Body of ``POST run`` and ``POST run/streaming``."""

    needs = RunTemplate.needs | {"is_native_run"}

    prompt_id: Identifier | None = optional(
        "An id for the run; each can be used only once. Without it the server makes an id."
    )
    client_id: ClientIdField = None
    wait: bool | None = optional(
        "Whether to reply when the run has ended (the default), or as soon as ComfyUI has queued"
        " it.",
        True,
    )
    timeout: Annotated[float, Field(gt=0, le=30 * 24 * 3600, allow_inf_nan=False)] | None = (
        optional(
            "The largest number of seconds to wait after the request; by default there is no limit."
            " When they are over, the reply is 504, or `error` and `status` on the stream, and the"
            " run continues. If that error has no `prompt_id`, the run was not queued: ComfyUI was"
            " not ready in time, or input files were not complete.",
            60,
        )
    )
    front: bool | None = optional(
        "Whether the run becomes the first one in the queue; the default is false.", False
    )
    previews: bool | None = optional(
        "Whether the sampler's previews are sent on the stream; the default is false.", False
    )
    extra_data: ExtraData | None = optional(
        "Keys of a Comfy account for partner nodes: `api_key_comfy_org` or `auth_token_comfy_org`."
        " They are not stored.",
        {"api_key_comfy_org": ACCOUNT_KEY},
        repr=False,
    )

    metadata: Labels | None = optional(
        "Labels of the run: texts by name, which `runs` shows and can search for.",
        {"client": "acme"},
    )

    retry: Annotated[int, Field(ge=0, le=10)] | None = optional(
        "How often the run is executed again if the machine that executes it ends. Only for pools"
        " and `auto`, ignored for a single machine; the default is 0, so that nothing is executed"
        " twice.",
        1,
    )
    status_endpoint: Endpoint | None = optional(
        "An address that receives the run's states, events and outputs."
    )
    file_upload_endpoint: Endpoint | None = optional(
        "An address that returns the upload addresses of the outputs."
    )
    gpu_event_id: str | None = optional("Forwarded to `status_endpoint`.")

    is_native_run: bool | None = optional(
        "Whether the body of the run comes from `native_run_api_endpoint`."
    )
    native_run_api_endpoint: str | None = optional(
        "The address that returns the body of a native run."
    )


class Webhook(NamedTuple):
    """An address that receives the end of a run."""

    url: str
    intermediate: bool  # whether it receives the states before the end as well
    view_url: str  # the absolute address of the `view` route, for the addresses of outputs


class DeploymentRun(RunRequest):
    """A run with a webhook; made from a `DeploymentRunRequest`, never read from a body."""

    webhook: Webhook | None = None


class PointRun(RunRequest):
    """The run of a point of a batch; never read from a body."""

    batch: str = ""
    point: int = 0


# -- batches


def _keep_list(value: object, check: ValidatorFunctionWrapHandler) -> Any:
    """Return a list of objects unchanged; checking each of very many takes long."""
    return value if isinstance(value, list) else check(value)


JSONObjects = Annotated[list[dict[str, Any]], Field(min_length=1), WrapValidator(_keep_list)]


class BatchRequest(RunTemplate):
    """Body of ``POST batch``: a workflow, and the points at which it runs."""

    needs = RunTemplate.needs | {"prompts"}

    batch_id: Identifier | None = optional(
        "An id for the batch; each can be used only once, so that a request that is sent again,"
        " since its reply was lost, makes no second batch. Without it the server makes an id."
    )
    inputs: JSONObject | None = optional(
        'Values by name, as `run` takes them. `{"$vary": […]}` stands for several values: the'
        " workflow runs at each combination, and the last of these inputs changes fastest. With"
        ' `{"$vary": […], "$with": "<name>"}` an input changes together with another one, which has'
        ' as many values. `{"$each": [{"batch": "<id>"}, {"run": "<id>"}]}` stands for each output'
        " of other batches and runs, also of those that have not ended, and takes `$with`, too: see"
        " *Chains of batches*. If no input is called `seed`, or several are, `seed` sets every"
        " seed of the workflow.",
        {"1.width": {"$vary": [64, 128]}},
    )
    points: JSONObjects | None = optional(
        "A list of points instead: each has the values of its own inputs, besides `inputs`.",
        [{"1.width": 64}, {"1.width": 128}],
    )
    prompts: JSONObjects | None = optional(
        "A list of graphs in API format instead: each is a point. Then no other workflow and no"
        " `inputs` are given.",
        [GRAPH],
    )
    seed_mode: Literal["saved", "auto", "random"] | None = optional(
        "As in `run`, but `saved` is the default, so that points differ only in their values.",
        "saved",
    )
    labels: Labels | None = optional(
        "Labels of the batch and of its runs: texts by name.", {"client": "acme"}
    )
    at_once: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] | None = optional(
        "How many points are queued at a time; the others wait in the store. With `auto` (the"
        " default) it is two for a machine, more if they take only moments, and four for each"
        " machine of a pool.",
        "auto",
    )
    retry: Annotated[int, Field(ge=0, le=10)] | None = optional(
        "How often a point that fails runs again; the default is 0.", 1
    )
    stop_after: Annotated[int, Field(ge=1)] | None = optional(
        "The number of failed points after which the batch is paused; by default it goes on.", 3
    )
    order: Literal["cheapest", "given"] | None = optional(
        "`cheapest` (the default): points that share most of their work follow each other;"
        " `given`: as in the request.",
        "cheapest",
    )
    webhook: Endpoint | None = optional("An address that receives the end of the batch.")
    key: Annotated[str, Field(min_length=1, max_length=200, pattern=_LINE)] | None = optional(
        "A name for this work. Points with which an earlier batch of the same key was successful"
        " are taken over from it, with their runs.",
        "sunsets",
    )
    fresh: bool | None = optional(
        "Whether all points run, also those that could be taken over; the default is false.", False
    )
    title: Annotated[str, Field(max_length=255)] | None = optional("A title for people.", "Sunsets")
    paused: bool | None = optional(
        "Whether the batch begins paused, so that nothing runs before `resume`.", False
    )
    runs: dict[str, Identifier] | None = optional(
        "The ids of runs that points have already, by the numbers of the points.", {"0": RUN_ID}
    )


# -- jobs

HASH_PATTERN = r"^blake3:[0-9a-f]{64}$"
JOB_HASH = "blake3:ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
JobStatus = Literal["queued", "running", "succeeded", "canceling", "canceled", "failed", "expired"]


def _check_statuses(text: str) -> str:
    for name in text.split(","):
        if name not in get_args(JobStatus):
            raise ValueError(f"{name!r} is not one of {', '.join(get_args(JobStatus))}")
    return text


class JobRequest(Model):
    workflow: JSONObject = required(
        "A graph in ComfyUI's API format. A reference to an asset may stand for the"
        ' name of a file: `{"__type": "core/ASSET", "info": {"id": "…"}}`.',
        GRAPH,
    )
    extra_data: ExtraData | None = optional(
        "`api_key_comfy_org`: the key of a Comfy account for partner nodes. It is not stored.",
        repr=False,
    )
    metadata: Labels | None = optional(
        "Labels of the job: texts by name. `machine` names the machine that executes it.",
        {"client": "acme"},
    )
    priority: float | None = optional("Above 0, the job becomes the first one in the queue.", 0)
    inputs: None = optional("Not supported: set the values in the workflow itself.")
    webhook_url: None = optional("Not supported: follow the job's events.")


class JobsQuery(Model):
    limit: int = optional("The largest number of jobs to return.", 10, default=50, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=200)] | None = optional(
        "`next_cursor` of the page before this one, with the same filters.",
        "AAAAAAAAAAGcqPzNgFYaTC-uzz4mfFzq",
    )
    status: Annotated[str, AfterValidator(_check_statuses)] | None = optional(
        "Return only jobs with this status, or one of several (`queued,running`).", "succeeded"
    )
    metadata: Labels | None = optional(
        "Return only jobs with all of these labels: `metadata[client]=acme`.", {"client": "acme"}
    )


# -- machines

MachineIdField = Annotated[
    MachineRef | None, Field(description="A machine's id or name.", examples=["local"])
]


class MachineConfig(CloudBody):
    """The settings of a machine; a field that is null counts as not given."""

    name: Name | None = optional("The name of the machine.", "local")
    comfyui_url: Endpoint | None = optional(
        "The address of a ComfyUI that this server does not start; it may be started later. A user"
        " and a password in it are sent with each request, and never shown.",
        "http://127.0.0.1:8189",
    )
    comfyui_headers: (
        dict[Annotated[str, Field(max_length=256)], Annotated[str, Field(max_length=8192)] | None]
        | None
    ) = optional(
        "Headers that are sent with each request to `comfyui_url`, such as the key of a reverse"
        " proxy; null removes one. They are stored, and replies show their names only. A new"
        " address removes them.",
        {"X-Api-Key": "secret"},
    )
    comfyui_client_cert: Annotated[str, Field(max_length=4096)] | None = optional(
        "A PEM file on this machine with the certificate that `comfyui_url` asks clients for."
    )
    comfyui_client_key: Annotated[str, Field(max_length=4096)] | None = optional(
        "The PEM file with its key, if it is not in `comfyui_client_cert`."
    )
    comfyui_ca: Annotated[str, Field(max_length=4096)] | None = optional(
        "A PEM file with the authorities that sign the certificate of `comfyui_url`; by default"
        " those that the system trusts."
    )
    comfyui_path: Annotated[str, Field(max_length=4096)] | None = optional(
        "The folder of a ComfyUI on this machine. The default for a managed machine is the folder"
        " of `local`."
    )
    comfyui_python: Annotated[str, Field(max_length=4096)] | None = optional(
        "The Python that runs ComfyUI. The default for a managed machine is that of `local`."
    )
    launch_args: list[str] | str | None = optional(
        "Further arguments for ComfyUI's main.py: an array, or a text that is split like a command"
        " line. No shell is involved.",
        ["--lowvram"],
    )
    env: dict[str, str | int | float | None] | None = optional(
        "Environment variables of ComfyUI, in addition to those that are set; null removes a"
        " variable.",
        {"HF_HUB_OFFLINE": "1"},
    )
    gpu: Annotated[str, Field(max_length=255)] | int | None = optional(
        'The GPUs that ComfyUI may use: `0`, `"0,1"`, `"GPU-…"`; for a `cloud` machine the type of'
        " GPU, such as `H100`."
    )
    autostart: bool | None = optional(
        "Whether it is started or connected when Jupyter starts; the default is true.", True
    )
    docker_steps: JSONObject | list[Any] | None = optional(
        "Another name for `docker_command_steps`."
    )
    docker_command_steps: JSONObject | list[Any] | None = optional(
        "The steps by which ComfyDeploy builds a `cloud` machine. For other machines they are only"
        " stored."
    )
    members: list[MachineRef] | None = optional(
        "The machines of a `pool`, by their ids or names. A run of the pool is executed by one of"
        " them.",
        ["local", "studio"],
    )
    cluster: Annotated[str, Field(min_length=1, max_length=255)] | None = optional(
        "The Dask cluster of a pool of the kind `dask`: a name in the setting `clusters`.", "hpc"
    )
    scheduler: Annotated[str, Field(min_length=1, max_length=300)] | None = optional(
        "The address of the Dask scheduler of such a pool, instead of `cluster`; `tcp://` only if"
        " `cluster_allow_plain_tcp` is set.",
        "tls://10.0.0.5:8786",
    )
    security: dict[Literal["tls_ca_file", "tls_client_cert", "tls_client_key"], str] | None = (
        optional(
            "The certificates for `scheduler`: PEM texts, or names of files on this machine. They"
            " are stored, and never sent back."
        )
    )
    workers: list[int] | None = optional(
        "The smallest and the largest number of ComfyUIs of such a pool; the smallest number of"
        " them is kept even if there are no runs. The default is `[0, 1]`.",
        [0, 8],
    )
    shared_dir: Annotated[str, Field(max_length=4096)] | None = optional(
        "A folder that the nodes of such a pool and this machine share under the same path. Outputs"
        " are written there; without it, they are copied to this machine.",
        "/scratch/me/comfyui",
    )
    retry: int | None = optional("The default of `retry` for the runs of a pool.", 0, ge=0, le=10)
    comfyui_version: Annotated[str, Field(max_length=255)] | None = optional(
        "The version of ComfyUI of a `cloud` machine. For other machines it is only stored."
    )


class MachineUpdate(MachineConfig):
    machine_id: MachineIdField = None
    restart: bool | None = optional("Whether to restart ComfyUI with the new settings.", False)
    reset: bool | None = optional("Whether to undo all earlier changes of the settings.", False)


class MachineCreate(MachineConfig):
    name: Name = required("The name of the machine; its id is made from it.", "studio")
    gpus: Literal["all"] | None = optional(
        "`all` starts a ComfyUI for each GPU of this machine, as managed machines with the other"
        " fields, and makes a pool of them.",
        "all",
    )
    kind: Literal["managed", "comfyui", "cloud", "pool", "dask"] | None = optional(
        "`managed`: this server starts and ends ComfyUI; `comfyui`: a ComfyUI that runs already;"
        " `cloud`: serverless at ComfyDeploy; `pool`: machines that share one queue; `dask`: a pool"
        " of ComfyUIs that are started on a Dask cluster. The default follows from the other"
        " fields.",
        "comfyui",
    )


# -- snapshots


def _check_not_relative(value: str) -> str:
    if value in (".", ".."):
        raise ValueError("must be a name, not . or ..")
    return value


class SnapshotRequest(CloudBody):
    """Body of ``POST snapshot-to-docker``; ``snapshot`` may be the text of a JSON or YAML file."""

    snapshot: JSONObject | str | None = optional(
        "An environment to use instead of the present one: `snapshot` of an earlier reply, or a"
        " snapshot of ComfyUI-Manager (an object, or the text of its JSON or YAML file)."
    )
    name: (
        Annotated[str, Field(pattern=FOLDER_PATTERN), AfterValidator(_check_not_relative)] | None
    ) = optional(
        "The name of the build context: at most 64 letters, digits, `.`, `_` and `-`. The default"
        " is the time. An earlier context with this name is replaced completely.",
        "studio",
    )
    include_models: bool | None = optional(
        "Whether to compute missing SHA-256 hashes, and to add downloads of all models whose source"
        " is known; the default is false.",
        False,
    )
    build: bool | None = optional(
        "Whether Docker or Podman builds the image `comfyui-snapshot:<name>` at once; the default"
        " is false.",
        False,
    )
    machine: MachineField = None


# -- graphs


def json_below(path: str) -> str:
    """Return a path if it leads to a JSON file below the folder that it is relative to."""
    if not path.lower().endswith(".json"):
        raise ValueError("must be the path of a JSON file")
    if any(part in {"", ".", ".."} for part in path.replace("\\", "/").split("/")):
        raise ValueError("must be a path below the folder")
    return path


class FileRequest(GraphRequest):
    """A graph, or the name of a file that contains one."""

    needs = GraphRequest.needs | {"filename"}

    filename: Annotated[str, Field(min_length=1, max_length=4096)] | None = optional(
        "A picture, video, sound or JSON file that contains the workflow: an output, or a name"
        " relative to ComfyUI or to Jupyter's root."
    )
    subfolder: Annotated[str, Field(max_length=4096)] = optional(
        "The folder of the file below that of its type.", "", default=""
    )
    type: Literal["output", "input", "temp", "file", "editor", "template", "example"] | None = (
        optional(
            "Where the file is: in one of ComfyUI's folders; `file`: at a path that is absolute or"
            " relative to Jupyter's root; `editor`: a `path` of `editor/workflows`; `template` and"
            " `example`: a `filename` of `workflow/templates`."
        )
    )

    @model_validator(mode="after")
    def _check_name(self) -> FileRequest:
        if self.type in ("editor", "template") and self.filename is not None:
            try:
                json_below(self.filename)
            except ValueError as error:
                raise InvalidRequestError.of_field("filename", str(error)) from None
        return self


class FrontInput(Model):
    """An input that is in front of a form."""

    key: Annotated[str, Field(max_length=1000)] = required("The key of its field.", "1.width")
    label: Annotated[str, Field(max_length=1000)] | None = optional(
        "Its label from now on; an empty one removes that of the author.", "Width of the picture"
    )


class ConvertRequest(FileRequest):
    to: Literal["api", "ui", "notebook", "python"] | None = optional(
        "The format to convert to; by default the other one of the two graphs.", "ui"
    )
    inputs: JSONObject | None = optional(
        "Values that are set first, as in `workflow/form`: numbers may be texts. `warnings` name"
        " those that are not valid, which are left out.",
        {"1.width": "128"},
    )
    front: Annotated[list[FrontInput], Field(max_length=1000)] | None = optional(
        "With `to: ui`: the inputs that are in front of the form, in this order. The workflow keeps"
        " them as ComfyUI's App mode does, in `extra.linearData`; an empty list ends that.",
        [{"key": "1.width"}],
    )
    text: bool = optional(
        "Whether the workflow in the reply is the text of a file, so that a browser does not round"
        " its large integers. If the request has the graph in both formats, so has the reply.",
        True,
        default=False,
    )
    form: bool = optional(
        "Whether the reply also has the `form` of the workflow, as `workflow/form` makes it with"
        " `brief`; `text` is on one line then. Not with `inputs` or `object_info`.",
        False,
        default=False,
    )
    object_info: JSONObject | None = optional("Node definitions to use instead of ComfyUI's.")
