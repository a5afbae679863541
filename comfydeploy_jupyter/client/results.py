"""The result of a run."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import RunCancelledError, RunFailedError, printable
from ..graphs.issues import OF_PROMPTS
from ..graphs.node_outputs import NodeFile, files_of, pairs_of, texts_of
from .graph import Source
from .output_files import Images, OutputFile
from .record import Reply
from .result_html import result_html
from .result_text import result_text, summary
from .terminal import Terminal

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from pathlib import Path

    from .graph import NodeName
    from .server import Server


class Result(Reply):
    """The result of a run; also a mapping with the keys of the server's reply.

    Displayed in a notebook it shows the pictures, texts and timings of the run. The pictures are
    embedded, so they stay in the saved notebook.

    Parameters
    ----------
    server : Server
        The server that has its files.
    reply : dict
        The reply of ``run``, or the record of a run.
    workflow : Source, optional
        The graph, for the titles of nodes.
    """

    def __init__(
        self, server: Server, reply: dict[str, Any], workflow: Source | None = None
    ) -> None:
        super().__init__(reply)
        self._server = server
        self._workflow = workflow or Source(None)
        self.files = list(self._files())
        self.images = Images([file for file in self.files if file.is_image])

    def __repr__(self) -> str:
        return summary(self)

    @property
    def status(self) -> str:
        """``success``, ``failed``, ``cancelled``, or the status of a run that has not ended."""
        return str(self._reply.get("status", "not-started"))

    @property
    def prompt_id(self) -> str:
        """The id of the run."""
        return str(self._reply.get("prompt_id", ""))

    @property
    def outputs(self) -> dict[str, Any]:
        """The outputs of each node, by node id, in ComfyUI's format."""
        return _dict(self._reply.get("outputs"))

    @property
    def seeds(self) -> dict[str, int]:
        """Every seed that the run used, by ``"<node id>.<input>"``."""
        return _dict(self._reply.get("seeds"))

    @property
    def node_times(self) -> dict[str, float]:
        """The execution time of each node, s, by node id; cached nodes are missing."""
        return _dict(self._reply.get("node_times"))

    @property
    def execution_time(self) -> float | None:
        """The execution time of the run, s."""
        value = self._reply.get("execution_time")
        return float(value) if isinstance(value, (int, float)) else None

    @property
    def cached_nodes(self) -> list[str]:
        """The ids of nodes whose outputs came from ComfyUI's cache."""
        value = self._reply.get("cached_nodes")
        return [str(node) for node in value] if isinstance(value, list) else []

    @property
    def error(self) -> dict[str, Any] | None:
        """The error of a failed run: ``type``, ``message``, ``node_id``, ``node_type``.

        It has ``traceback`` if ComfyUI has sent one.
        """
        return _dict(self._reply.get("error")) or None

    @property
    def left_out(self) -> list[str]:
        """Why ComfyUI did not execute some outputs, a sentence for each error; often empty."""
        return self._workflow.complaints(self._reply.get("node_errors"))

    @property
    def texts(self) -> list[str]:
        """The texts among the outputs of nodes."""
        return [text for _, text in self.texts_by_node]

    @property
    def texts_by_node(self) -> list[tuple[NodeName, str]]:
        """The texts among the outputs of nodes, each with the name of its node."""
        return [
            (self.node_name(node_id), text)
            for node_id, output in self.outputs.items()
            for text in texts_of(output)
        ]

    @property
    def pairs(self) -> list[tuple[OutputFile, OutputFile]]:
        """The pictures that nodes compare, as (before, after)."""
        found: list[tuple[OutputFile, OutputFile]] = []
        start = 0
        for output in self.outputs.values():
            found.extend(
                (self.files[start + before], self.files[start + after])
                for before, after in pairs_of(output)
            )
            start += sum(1 for _ in files_of(output))
        return found

    def node_name(self, node_id: str) -> NodeName:
        """Return the id, class and title of a node of the run."""
        return self._workflow.name(node_id)

    @property
    def failure(self) -> str:
        """Why the run failed, in one sentence that names the node; empty if it did not."""
        error = self.error
        if error is None:
            return ""
        if error.get("type") in OF_PROMPTS and error.get("message"):
            return printable(str(error["message"]))
        what = ": ".join(str(error[key]).strip() for key in ("type", "message") if error.get(key))
        if error.get("node_id") is None:
            return printable(what or "the run failed")
        name = self._workflow.name(error["node_id"], error.get("node_type"))
        if not name.title and error.get("node_title"):
            name = replace(name, title=str(error["node_title"]), unique=True)
        return printable(f"node {name} failed: {what}")

    def raise_for_status(self) -> Result:
        """Return this result if the run succeeded.

        Raises
        ------
        RunFailedError
            A node failed; the message names it.
        RunCancelledError
            The run was cancelled.
        """
        if self.status == "failed":
            details = {} if self.error is None else self.error
            raise RunFailedError(self.failure or "the run failed", details=details, result=self)
        if self.status == "cancelled":
            raise RunCancelledError(f"the run {self.prompt_id} was cancelled", result=self)
        return self

    def save(self, directory: str | os.PathLike[str] = ".") -> list[Path]:
        """Write every file of the run into a folder; return the paths of the written files."""
        return [file.save(directory) for file in self.files]

    def _files(self) -> Iterator[OutputFile]:
        for node_id, output in self.outputs.items():
            for file in files_of(output):
                yield self._file(node_id, file)

    def _file(self, node_id: str, file: NodeFile) -> OutputFile:
        # The token is never sent to another server: such a file is requested by its name.
        address = self._server.owns(file.url) or self._server.address(
            "view",
            {
                "filename": file.filename,
                "subfolder": file.subfolder,
                "type": file.type,
                "machine": self._reply.get("machine"),
            },
        )
        return OutputFile(
            node_id, file.kind, file.filename, file.subfolder, file.type, self._server, address
        )

    def to_html(self, *, files: bool = True) -> str:
        """Return the result as HTML in which every text of the run is escaped.

        Parameters
        ----------
        files : bool
            Whether to embed its pictures, videos and sounds.
        """
        return result_html(self, files=files)

    def _repr_html_(self) -> str:
        return self.to_html()

    def show(self) -> None:
        """Print the result: status, pictures if the terminal can show them, files, texts.

        Files are links if the terminal supports links. A pipe or a file gets plain text.
        """
        for part in result_text(self, Terminal.of(sys.stdout)):
            sys.stdout.write(part)
        sys.stdout.flush()

    def _ipython_display_(self) -> None:
        if Terminal.of(sys.stdout) is None:
            raise NotImplementedError  # IPython then shows it as HTML, or by its repr
        self.show()


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
