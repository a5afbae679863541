"""What the routes take: the one source of the checks and of the description in `openapi`."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from .errors import InvalidRequestError
from .unparsed import Unparsed

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Graph = dict[str, dict[str, Any]]
Status = Literal["not-started", "queued", "running", "uploading", "success", "failed", "cancelled"]
# No character that ends or escapes a part of an address, and not only dots.
_ANY = r"[^\s/?#%\x00-\x1f\x7f]*"
_ADDRESSABLE = rf"^{_ANY}[^\s/?#%.\x00-\x1f\x7f]{_ANY}$"
# An id that can stand in a URL and a header line.
Identifier = Annotated[str, Field(min_length=1, max_length=200, pattern=_ADDRESSABLE)]
# The id of a node, which may be any text in API format.
NodeId = Annotated[str, Field(min_length=1, max_length=1000)]
LONGEST_KEY = 16 * 1024  # characters of a key or token
_HOSTNAME = r"^(?i:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(?i:\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$"
# One line of text that is not blank.
_LINE = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
Name = Annotated[str, Field(max_length=255, pattern=_LINE)]
# Which machine is meant: its id or its name.
MachineRef = Name
_FOLDER = r"^[A-Za-z0-9._-]{1,64}$"
_SHA256 = r"^[0-9a-fA-F]{64}$"
_WORDS = {
    _ADDRESSABLE: "must be an id: without spaces and without / ? # %",
    _FOLDER: "must be 1 to 64 letters, digits, dots, underscores and dashes",
    _HOSTNAME: "must be the name of a host, such as comfy.example.com",
    _LINE: "must be one line of text, and not blank",
    _SHA256: "must be a SHA-256 in hexadecimal: 64 digits",
}


def _is_no_way_up(value: str) -> str:
    if value in (".", ".."):
        raise ValueError("must be a name, not . or ..")
    return value


# A folder of its own.
FolderName = Annotated[str, Field(pattern=_FOLDER), AfterValidator(_is_no_way_up)]


def _is_web_address(value: str) -> str:
    try:
        valid = not value or (
            urlsplit(value).scheme in ("http", "https") and bool(urlsplit(value).hostname)
        )
    except ValueError:
        valid = False
    if not valid or any(character.isspace() for character in value):
        raise ValueError("must be an http:// or https:// address")
    return value


# An address that we call; empty counts as none.
Endpoint = Annotated[str, Field(max_length=8192), AfterValidator(_is_web_address)]


def _is_tunnel_token(value: str) -> str:
    try:
        found = json.loads(base64.b64decode(value.strip(), validate=True))
        valid = all(isinstance(found[name], str) and found[name] for name in ("a", "t", "s"))
    except (ValueError, KeyError, TypeError):
        valid = False
    if not valid:
        raise ValueError("is not the token of a Cloudflare tunnel")
    return value.strip()


def _untouched(value: object, check: ValidatorFunctionWrapHandler) -> Any:
    """Take a JSON object as it was parsed; to check and copy the keys of a large one takes long."""
    return value if type(value) in (dict, Unparsed) else check(value)


JSONObject = Annotated[dict[str, Any], WrapValidator(_untouched)]


class Model(BaseModel):
    """Base of all request models: exact types, unknown fields ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Keyed(Model):
    """A body that may bring an API key of ComfyDeploy."""

    cd_token: str | None = Field(default=None, repr=False)
    token: str | None = Field(default=None, repr=False)

    @property
    def given_key(self) -> str | None:
        """The API key that comes along."""
        return self.cd_token or self.token


class ExtraData(Model):
    """What goes to ComfyUI beside a graph; further fields are not passed on.

    The names are those of ComfyUI's ``POST /prompt``.
    """

    api_key_comfy_org: str | None = Field(default=None, repr=False)
    auth_token_comfy_org: str | None = Field(default=None, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, fields: Any) -> Any:
        """Name the field that is wrong, and never say what is in it."""
        for name in cls.model_fields if isinstance(fields, dict) else ():
            key = fields.get(name)
            if key is not None and not is_account_key(key):
                raise ValueError(f"{name} must be one line of text without spaces")
        return fields

    @property
    def keys(self) -> dict[str, str]:
        """The keys that were given, by their names."""
        return {name: key for name, key in self.model_dump().items() if key}


def is_account_key(value: object) -> bool:
    """Return whether a value can be a key or a token of a Comfy account."""
    return (
        isinstance(value, str)
        and len(value) <= LONGEST_KEY
        and all(character.isprintable() and not character.isspace() for character in value)
    )


class AccountRequest(Model):
    """Body of ``POST comfy-account``: the key to keep, or null to forget the one that is kept."""

    api_key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY)] | None = Field(repr=False)

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, key: str | None) -> str | None:
        if key is not None and not is_account_key(key):
            raise ValueError("must be one line of text without spaces")
        return key


class RunRequest(Keyed):
    """Body of ``POST run`` and ``POST run/streaming``.

    Exactly one source of the graph is needed; ``workflow`` may stand beside the others as the
    picture that ComfyUI writes into its outputs. A field that is null counts as not given.
    """

    workflow_api: JSONObject | None = None
    workflow_api_raw: JSONObject | None = None
    workflow: JSONObject | None = None
    workflow_id: Identifier | None = None
    version: Annotated[int, Field(ge=1)] | Literal["latest"] | None = None

    inputs: JSONObject | None = None
    prompt_id: Identifier | None = None
    client_id: Identifier | None = None
    machine: MachineRef | None = None
    wait: bool | None = None
    timeout: Annotated[float, Field(gt=0, le=30 * 24 * 3600, allow_inf_nan=False)] | None = None
    front: bool | None = None
    seed_mode: Literal["saved", "auto", "random"] | None = None
    strict_inputs: bool | None = None
    previews: bool | None = None
    preview_method: Literal["default", "none", "auto", "latent2rgb", "taesd"] | None = None
    outputs: Annotated[list[NodeId], Field(min_length=1)] | None = None
    extra_data: ExtraData | None = Field(default=None, repr=False)

    status_endpoint: Endpoint | None = None
    file_upload_endpoint: Endpoint | None = None
    gpu_event_id: str | None = None

    is_native_run: bool | None = None
    native_run_api_endpoint: str | None = None

    @property
    def node_form(self) -> bool:
        """Whether the request has the form of the ComfyUI node, with its own defaults."""
        return self.workflow_api_raw is not None


class GraphRequest(Model):
    """A graph in one of its formats."""

    workflow_api: JSONObject | None = None
    workflow: JSONObject | None = None
    machine: MachineRef | None = None


class ValidateRequest(GraphRequest):
    """Body of ``POST workflow/validate``."""


class FetchModelsRequest(GraphRequest):
    """Body of ``POST workflow/fetch-models``."""

    workflow_id: Identifier | None = None
    version: Annotated[int, Field(ge=1)] | Literal["latest"] | None = None
    models: Annotated[list[str], Field(max_length=1000)] | None = None
    dry_run: bool = False
    sizes: bool = False


class ConvertRequest(GraphRequest):
    """Body of ``POST workflow/convert``."""

    to: Literal["api", "ui", "notebook", "python"] | None = None
    object_info: JSONObject | None = None

    filename: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    subfolder: Annotated[str, Field(max_length=4096)] = ""
    type: Literal["output", "input", "temp"] | None = None


class InterruptRequest(Model):
    """Body of ``POST interrupt``."""

    prompt_id: Identifier | None = None
    machine: MachineRef | None = None


class FreeRequest(Model):
    """Body of ``POST free``."""

    machine: MachineRef | None = None
    unload_models: bool = True
    free_memory: bool = True


class UploadQueueQuery(Model):
    """Query of ``GET upload-queue-status``."""

    prompt_id: Identifier | None = None


class CancelUploadsRequest(Model):
    """Body of ``POST cancel-uploads``: a run, one transfer, or without either all."""

    prompt_id: Identifier | None = None
    id: Identifier | None = None


class RetryUploadsRequest(Keyed):
    """Body of ``POST retry-uploads``: one transfer, a run, or without either all uploads."""

    prompt_id: Identifier | None = None
    id: Identifier | None = None


class SendFileRequest(Keyed):
    """The JSON body of ``POST upload-file``, as clients of the ComfyUI node send it."""

    file_path: Annotated[str, Field(min_length=1)]
    url: Endpoint
    machine: MachineRef | None = None


class UploadPartRequest(Model):
    """Body of ``POST volume/file/upload-part-from-path``; ``end`` is not sent any more."""

    file_path: Annotated[str, Field(min_length=1, alias="filePath")]
    upload_url: Annotated[Endpoint, Field(min_length=1, alias="uploadUrl")]
    start: Annotated[int, Field(ge=0)] = 0
    end: Annotated[int, Field(ge=0)]
    machine: MachineRef | None = None


class JoinQuery(Model):
    """Query of ``GET run/streaming``."""

    prompt_id: Identifier
    previews: bool = False


class RunsQuery(Model):
    """Query of ``GET runs``; ``structure`` names a workflow, as `graphs.structure` has it."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    offset: Annotated[int, Field(ge=0, le=10**9)] = 0
    status: Status | None = None
    structure: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None


class StatusQuery(Model):
    """Query of ``GET check-status``."""

    prompt_id: Identifier | None = None
    machine: MachineRef | None = None
    strict: bool = False
    timeout: Annotated[float, Field(gt=0, le=60)] = 2.0
    in_use: bool = False


class SocketStatusQuery(Model):
    """Query of ``GET check-ws-status``."""

    client_id: Identifier | None = None
    machine: MachineRef | None = None


class SocketQuery(Model):
    """Query of ``GET ws``: what a ``queue_prompt`` gets that does not say it itself."""

    client_id: Identifier | None = Field(default=None, alias="clientId")
    machine: MachineRef | None = None
    workflow_id: Identifier | None = None
    version: Annotated[int, Field(ge=1)] | Literal["latest"] | None = None


class CloudTarget(Model):
    """What sends a request to the ComfyDeploy API instead of to the local store."""

    target: Literal["local", "cloud"] | None = None
    api_url: Annotated[str, Field(max_length=2000)] | None = None

    @property
    def in_cloud(self) -> bool:
        """Whether the request is for ComfyDeploy."""
        return self.target == "cloud" or bool(self.api_url)

    @property
    def given_key(self) -> str | None:
        """The API key that comes along; a query has none, as addresses are logged."""
        return None


class CloudBody(Keyed, CloudTarget):
    """The same in a body, which may bring the API key."""


class HuggingFaceModel(Model):
    """A model of Hugging Face, as ComfyDeploy's own form names it."""

    repo_id: Annotated[str, Field(min_length=1, alias="repoId")]


class CivitaiModel(Model):
    """A model of Civitai, as ComfyDeploy's own form names it."""

    url: Annotated[str, Field(min_length=1)]


class VolumeModelRequest(CloudBody):
    """Body of ``POST volume/model``.

    The fields of ComfyDeploy's own form (``folderPath``, ``downloadLink``, ``huggingface``,
    ``civitai``) are understood too.
    """

    action: Literal["add", "list", "delete", "move"] = "add"
    source: Literal["link", "huggingface", "civitai", "local"] = "link"
    url: str | None = None
    path: str | None = None
    folder: str | None = None
    filename: str | None = None
    to_folder: str | None = None
    to_filename: str | None = None
    machine: MachineRef | None = None
    sha256: Annotated[str, Field(pattern=_SHA256)] | None = None

    folder_path: str | None = Field(default=None, alias="folderPath")
    download_link: str | None = Field(default=None, alias="downloadLink")
    huggingface: HuggingFaceModel | None = None
    civitai: CivitaiModel | None = None

    @property
    def address(self) -> str | None:
        """Where the model is, in whichever form it was given."""
        own = self.url or self.download_link
        if self.source == "huggingface" and self.huggingface is not None:
            return own or self.huggingface.repo_id
        if self.source == "civitai" and self.civitai is not None:
            return own or self.civitai.url
        return own

    def for_service(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body of this request in ComfyDeploy's own form.

        Raises
        ------
        InvalidRequestError
            If it does not say where the model goes, or where it is.
        """
        ours = {*CloudBody.model_fields, "action", "machine", "folder", "url", "path", "sha256"}
        passed = {name: value for name, value in body.items() if name not in ours}
        folder = self.folder and self.folder.strip("/").removeprefix("models/")
        passed = {"source": self.source, "folderPath": folder or self.folder_path, **passed}
        if not passed["folderPath"]:
            raise InvalidRequestError.of_field("folder", "is needed")
        if not self.address:
            raise InvalidRequestError.of_field("url", "is needed to add a model")
        if self.url and self.source == "civitai":
            passed["civitai"] = {"url": self.url}
        elif self.url and self.source == "huggingface" and "://" not in self.url:
            passed["huggingface"] = {"repoId": self.url}
        elif self.url:
            passed.update(source="link", downloadLink=self.url)
        return passed


class AuthQuery(Model):
    """Query of ``GET auth-response``."""

    request_id: Identifier
    api_url: Annotated[str, Field(max_length=2000)] | None = None


class WorkflowRequest(CloudBody):
    """Body of ``POST workflow``; ``workflow`` and ``workflow_json`` are names for the same."""

    name: Name | None = None
    workflow: JSONObject | str | None = None
    workflow_json: JSONObject | str | None = None
    workflow_api: JSONObject | str | None = None
    workflow_id: Identifier | None = None
    comment: Annotated[str, Field(max_length=10_000)] | None = None
    machine_id: MachineRef | None = None
    force: bool | None = None


class VersionRequest(WorkflowRequest):
    """Body of ``POST workflow/version``."""

    workflow_id: Identifier


class WorkflowsQuery(CloudTarget):
    """Query of ``GET workflows``."""

    search: Annotated[str, Field(max_length=1000)] = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    offset: Annotated[int, Field(ge=0, le=10**9)] = 0


class WorkflowQuery(CloudTarget):
    """Query of ``GET workflow``."""

    workflow_id: Identifier


class VersionsQuery(WorkflowsQuery):
    """Query of ``GET workflow/versions``."""

    workflow_id: Identifier


class VersionQuery(WorkflowQuery):
    """Query of ``GET workflow/version``."""

    version: Annotated[int, Field(ge=1, le=10**9)] | Literal["latest"] = "latest"


class MachineSource(CloudTarget):
    """Query of ``GET machine``."""

    machine_id: MachineRef | None = None


class MachineConfig(CloudBody):
    """What can be set of a machine; a field that is null counts as not given."""

    name: Name | None = None
    comfyui_url: Endpoint | None = None
    comfyui_path: Annotated[str, Field(max_length=4096)] | None = None
    comfyui_python: Annotated[str, Field(max_length=4096)] | None = None
    launch_args: list[str] | str | None = None
    env: dict[str, str | int | float | None] | None = None
    gpu: Annotated[str, Field(max_length=255)] | int | None = None
    autostart: bool | None = None
    docker_steps: JSONObject | list[Any] | None = None
    docker_command_steps: JSONObject | list[Any] | None = None
    comfyui_version: Annotated[str, Field(max_length=255)] | None = None


class MachineUpdate(MachineConfig):
    """Body of ``POST machine/update``."""

    machine_id: MachineRef | None = None
    restart: bool | None = None
    reset: bool | None = None


class MachineCreate(MachineConfig):
    """Body of ``POST machine/create``."""

    name: Name
    kind: Literal["managed", "comfyui", "cloud"] | None = None


class MachineDelete(Model):
    """Body of ``POST machine/delete``."""

    machine_id: MachineRef


class VersionInfoQuery(CloudTarget):
    """Query of ``GET comfyui-version``."""

    machine: MachineRef | None = None


class SnapshotRequest(CloudBody):
    """Body of ``POST snapshot-to-docker``; ``snapshot`` may be the text of a JSON or YAML file."""

    snapshot: JSONObject | str | None = None
    name: FolderName | None = None
    include_models: bool | None = None
    build: bool | None = None
    machine: MachineRef | None = None


class MachineQuery(Model):
    """Query of the routes that ask a ComfyUI something."""

    machine: MachineRef | None = None


class ListQuery(MachineQuery):
    """Query of ``GET filename_list_cache``."""

    format: Literal["flat", "folders"] = "flat"


class ModelsQuery(ListQuery):
    """Query of ``GET models``."""

    folder: Annotated[str, Field(max_length=255)] | None = None
    search: Annotated[str, Field(max_length=1000)] = ""


class FileQuery(MachineQuery):
    """Query of ``GET get-file-hash``; ``file_path`` is the name of the ComfyUI node."""

    filename: str | None = None
    file_path: str | None = None


class StatQuery(MachineQuery):
    """Query of ``GET fs/stat``."""

    path: str | None = None


class ViewQuery(MachineQuery):
    """Query of ``GET view``; the names are those of ComfyUI's outputs."""

    filename: Annotated[str, Field(min_length=1, max_length=1024)]
    subfolder: Annotated[str, Field(max_length=4096)] = ""
    type: Literal["output", "input", "temp"] = "output"
    thumbnail: Annotated[int, Field(ge=16, le=1024)] | None = None


class LogQuery(MachineQuery):
    """Query of ``GET comfyui/log``."""

    lines: Annotated[int, Field(ge=1, le=10_000)] = 200


TunnelTarget = Literal["comfyui", "jupyter"]


class TunnelQuery(Model):
    """Query of ``GET tunnel/status``, body of ``POST tunnel/stop``; without a target: all."""

    target: TunnelTarget | None = None


class TunnelStartRequest(Model):
    """Body of ``POST tunnel/start``."""

    target: TunnelTarget | None = None
    machine: MachineRef | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    token: Annotated[str, Field(max_length=8192), AfterValidator(_is_tunnel_token)] | None = Field(
        default=None, repr=False
    )
    hostname: Annotated[str, Field(max_length=253, pattern=_HOSTNAME)] | None = None
    protect: bool | None = None
    wait: bool | None = None

    @model_validator(mode="after")
    def _fields_fit_each_other(self) -> TunnelStartRequest:
        if self.machine is not None and (self.target == "jupyter" or self.port is not None):
            raise InvalidRequestError.of_field(
                "machine", "says which ComfyUI: not beside port, nor the target jupyter"
            )
        if self.hostname is not None and self.token is None:
            raise InvalidRequestError.of_field(
                "hostname", "needs a token: a quick tunnel gets its name from Cloudflare"
            )
        return self


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
        Whether numbers may be given as text, as in a query.

    Raises
    ------
    InvalidRequestError
        Naming the first field that is wrong; ``details["errors"]`` has all of them.
    """
    try:
        return model.model_validate(fields, strict=False if lax else None)
    except ValidationError as fault:
        problems = [
            {"field": _place(error["loc"]), "problem": _problem(error)} for error in fault.errors()
        ]
        first = problems[0]
        raise InvalidRequestError(
            f"{first['field']}: {first['problem']}",
            details={**first, "errors": problems},
        ) from None


def _place(location: tuple[int | str, ...]) -> str:
    """Name a field; pydantic adds the tried types of a union, which mean nothing to users."""
    return str(location[0]) if location else "body"


def _problem(error: ErrorDetails) -> str:
    """Say what is wrong in words; nobody wants to read a regular expression."""
    pattern = error.get("ctx", {}).get("pattern")
    return _WORDS.get(str(pattern), error["msg"]).removeprefix("Value error, ")
