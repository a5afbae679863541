"""Workflow graphs: converting and validating."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from ..lazy import lazy_module
from .base import Handler, schemas

if TYPE_CHECKING:
    from ..workflows import convert, judge
else:
    convert, judge = lazy_module("workflows.convert"), lazy_module("workflows.judge")


class ConvertHandler(Handler):
    """``POST workflow/convert``: a workflow in another format."""

    async def post(self) -> None:
        """Convert a graph, or the one that a file carries."""
        if self.request.files:
            request = schemas.parse(schemas.ConvertRequest, await self.read_form())
        else:
            request = await self.body(schemas.ConvertRequest)
        machine = self.services.machines.get(request.machine)
        if request.filename is not None:
            if request.workflow is not None or request.workflow_api is not None:
                raise InvalidRequestError.of_field("filename", "is given beside a graph; send one")
            found = await convert.read_stored(request, machine)
            request = request.model_copy(update=found)
        converted = await convert.convert(request, machine)
        await self.reply_large({"success": True, **converted})

    async def read_form(self) -> dict[str, Any]:
        """Return the fields of a multipart body, its file replaced by the graph in it."""
        files = self.request.files.get("file", [])
        if len(files) != 1:
            raise InvalidRequestError.of_field("file", "is needed, once")
        fields: dict[str, Any] = {
            name: self.get_body_argument(name)
            for name in ("to", "machine")
            if name in self.request.body_arguments
        }
        return {**fields, **await asyncio.to_thread(convert.read_file, files[0]["body"])}


class ValidateHandler(Handler):
    """``POST workflow/validate``: what ComfyUI would answer, without queueing."""

    async def post(self) -> None:
        """Judge a graph."""
        request = await self.body(schemas.ValidateRequest)
        if request.workflow_api is None and request.workflow is None:
            raise InvalidRequestError.of_field(
                "workflow_api", "is missing: send the graph as workflow_api or as workflow"
            )
        machine = self.services.machines.get(request.machine)
        await self.reply_large(
            await judge.judge(machine, workflow_api=request.workflow_api, workflow=request.workflow)
        )
