"""Requests that list, hash, show and upload files."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import MachineQuery, SearchField

__all__ = ["FileQuery", "ListQuery", "ModelUsesQuery", "ModelsQuery", "StatQuery", "ViewQuery"]


class ListQuery(MachineQuery):
    """Query of ``GET filename_list_cache``."""

    format: Literal["flat", "folders"] = Field(
        "flat",
        description="`folders`: by folder, in the form of the ComfyUI node.",
        examples=["flat"],
    )


class ModelsQuery(ListQuery):
    """Query of ``GET models``."""

    folder: Annotated[str, Field(max_length=255)] | None = Field(
        None, description="A folder of models.", examples=["checkpoints"]
    )
    search: SearchField = ""


class ModelUsesQuery(MachineQuery):
    """Query of ``GET models/uses``."""

    folder: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        description="The models folder of the model.", examples=["checkpoints"]
    )
    filename: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        description="Its name in this folder.", examples=["b.safetensors"]
    )


class FileQuery(MachineQuery):
    """Query of ``GET get-file-hash``; ``file_path`` is the name of the ComfyUI node."""

    filename: str | None = Field(
        None,
        description="A name relative to ComfyUI or to Jupyter's root.",
        examples=["input/a.png"],
    )
    file_path: str | None = Field(
        None, description="Another name for `filename`.", examples=["input/a.png"]
    )


class StatQuery(MachineQuery):
    """Query of ``GET fs/stat``."""

    path: str | None = Field(
        None, description="A path; by default the models folder.", examples=["models"]
    )


class ViewQuery(MachineQuery):
    """Query of ``GET view``; the names are those of ComfyUI's outputs."""

    filename: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="The name of a file.", examples=["example_00001_.png"]
    )
    subfolder: Annotated[str, Field(max_length=4096)] = Field(
        "", description="The folder of the file below that of its type.", examples=[""]
    )
    type: Literal["output", "input", "temp"] = Field(
        "output", description="Which of ComfyUI's folders the file is in.", examples=["output"]
    )
    thumbnail: Annotated[int, Field(ge=16, le=1024)] | None = Field(
        None,
        description="The longer side of a small copy of a picture, in pixels.",
        examples=[256],
    )
