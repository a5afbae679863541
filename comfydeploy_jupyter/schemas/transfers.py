"""Requests that transfer files: the upload queue, and models on volumes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ..errors import InvalidRequestError
from .base import SHA256_PATTERN, CloudBody, Endpoint, Identifier, Keyed, MachineField, Model
from .examples import RUN_ID, TRANSFER_ID

__all__ = [
    "CancelUploadsRequest",
    "CivitaiModel",
    "HuggingFaceModel",
    "RetryUploadsRequest",
    "SendFileRequest",
    "UploadPartRequest",
    "UploadQueueQuery",
    "VolumeModelRequest",
]

_UploadsOf = Annotated[
    Identifier | None,
    Field(
        description="Only the uploads of this run; without it and `id` all uploads.",
        examples=[RUN_ID],
    ),
]
_TransferId = Annotated[
    Identifier | None,
    Field(
        description="The id of an upload or a download in upload-queue-status.",
        examples=[TRANSFER_ID],
    ),
]


class UploadQueueQuery(Model):
    """Query of ``GET upload-queue-status``."""

    prompt_id: Identifier | None = Field(
        None, description="List only the transfers of this run; by default all.", examples=[RUN_ID]
    )


class CancelUploadsRequest(Model):
    """Body of ``POST cancel-uploads``: a run or one transfer; by default all uploads."""

    prompt_id: _UploadsOf = None
    id: _TransferId = None


class RetryUploadsRequest(Keyed):
    """Body of ``POST retry-uploads``: a run or one transfer; by default all uploads."""

    prompt_id: _UploadsOf = None
    id: _TransferId = None


class SendFileRequest(Keyed):
    """The JSON body of ``POST upload-file``, as clients of the ComfyUI node send it."""

    file_path: Annotated[str, Field(min_length=1)] = Field(
        description="A file on this machine.", examples=["output/example_00001_.png"]
    )
    url: Endpoint = Field(
        description="ComfyDeploy's address that returns the upload address of the file.",
        examples=["https://api.comfydeploy.com/api/file-upload"],
    )
    machine: MachineField = None


class UploadPartRequest(Model):
    """Body of ``POST volume/file/upload-part-from-path``; the byte ``end`` is not sent."""

    file_path: Annotated[str, Field(min_length=1)] = Field(
        alias="filePath",
        description="A file on this machine.",
        examples=["models/checkpoints/a.safetensors"],
    )
    upload_url: Annotated[Endpoint, Field(min_length=1)] = Field(
        alias="uploadUrl",
        description="The presigned address of the part.",
        examples=["https://storage.example.com/part"],
    )
    start: Annotated[int, Field(ge=0)] = Field(
        0, description="The first byte of the part.", examples=[0]
    )
    end: Annotated[int, Field(ge=0)] = Field(
        description="The byte after the last one of the part.", examples=[1048576]
    )
    machine: MachineField = None


class HuggingFaceModel(Model):
    """A model of Hugging Face, in the format of ComfyDeploy's web form."""

    repo_id: Annotated[str, Field(min_length=1)] = Field(
        alias="repoId", description="A repository of Hugging Face.", examples=["owner/repo"]
    )


class CivitaiModel(Model):
    """A model of Civitai, in the format of ComfyDeploy's web form."""

    url: Annotated[str, Field(min_length=1)] = Field(
        description="The page of the model.", examples=["https://example.com/a.safetensors"]
    )


class VolumeModelRequest(CloudBody):
    """Body of ``POST volume/model``.

    The fields of ComfyDeploy's web form (``folderPath``, ``downloadLink``, ``huggingface``,
    ``civitai``) are accepted too.
    """

    action: Literal["add", "list", "delete", "move"] = Field(
        "add", description="`add` (the default), `list`, `move` or `delete`.", examples=["list"]
    )
    source: Literal["link", "huggingface", "civitai", "local"] = Field(
        "link",
        description="The source of the model: `link` (the default), `huggingface`, `civitai`, or"
        " `local`, a file on this machine.",
        examples=["link"],
    )
    url: str | None = Field(
        None,
        description="The address of the model; for Hugging Face also `owner/repo`, with the file as"
        " `filename`; for Civitai the page of the model.",
        examples=["https://example.com/a.safetensors"],
    )
    path: str | None = Field(None, description="A path on this machine, for the source `local`.")
    folder: str | None = Field(
        None,
        description="The models folder of the model.",
        examples=["checkpoints"],
    )
    filename: str | None = Field(
        None,
        description="The name of the file; for `add` the default is the name in the address.",
        examples=["b.safetensors"],
    )
    to_folder: str | None = Field(None, description="For `move`: the new folder.")
    to_filename: str | None = Field(None, description="For `move`: the new name.")
    in_use: bool = Field(
        False,
        description="For `move` and `delete`: go on although a run or a transfer uses the model"
        " now; otherwise such a request is refused with 409.",
    )
    machine: MachineField = None
    sha256: Annotated[str, Field(pattern=SHA256_PATTERN)] | None = Field(
        None,
        description="The SHA-256 that the content must have, in hexadecimal. For models of Hugging"
        " Face and Civitai it comes from these sites.",
    )

    folder_path: str | None = Field(
        None, alias="folderPath", description="ComfyDeploy's name for `folder`."
    )
    download_link: str | None = Field(
        None, alias="downloadLink", description="ComfyDeploy's name for `url`."
    )
    huggingface: HuggingFaceModel | None = Field(
        None, description="ComfyDeploy's form of a model of Hugging Face."
    )
    civitai: CivitaiModel | None = Field(
        None, description="ComfyDeploy's form of a model of Civitai."
    )

    @property
    def address(self) -> str | None:
        """The address of the model, from the field in which it was given."""
        own = self.url or self.download_link
        if self.source == "huggingface" and self.huggingface is not None:
            return own or self.huggingface.repo_id
        if self.source == "civitai" and self.civitai is not None:
            return own or self.civitai.url
        return own

    def for_service(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body of this request in the format of ComfyDeploy's web form.

        Parameters
        ----------
        body : dict
            The body of the request; fields that are not in the model are forwarded.

        Raises
        ------
        InvalidRequestError
            If the folder or the address of the model is missing.
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
