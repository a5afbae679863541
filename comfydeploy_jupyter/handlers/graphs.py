"""Workflow graphs: converting and validating."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

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
        """Convert a graph."""
        request = await self.body(schemas.ConvertRequest)
        machine = self.services.machines.get(request.machine)
        converted = await convert.convert(request, machine)
        await self.finish(await asyncio.to_thread(self.dumps, {"success": True, **converted}))


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
        self.reply(
            await judge.judge(machine, workflow_api=request.workflow_api, workflow=request.workflow)
        )
