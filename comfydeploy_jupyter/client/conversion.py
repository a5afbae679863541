"""Conversion of workflows from the editor's format, by the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .graph import Source

if TYPE_CHECKING:
    from .server import Server


def in_api_format(server: Server, source: Source) -> tuple[Source, list[str]]:
    """Return a workflow with its graph in API format, and why parts could not be converted.

    Parameters
    ----------
    server : Server
        The server that converts it.
    source : Source
        A workflow in the editor's format or in API format.
    """
    if not source.is_ui:
        return source, []
    reply = server.post("workflow/convert", {"workflow": source.graph, "to": "api"})
    converted = Source(
        reply["workflow_api"], ui=source.graph, given=source.given, files=source.files
    )
    return converted, conversion_problems(reply)


def conversion_problems(reply: dict[str, Any]) -> list[str]:
    """Return the warnings in a reply of the route ``workflow/convert``."""
    return [str(problem) for problem in reply.get("warnings") or ()]
