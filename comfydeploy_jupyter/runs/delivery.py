"""Uploads the outputs of runs and reports their states to the endpoint that a request names.

A webhook gets the messages of ComfyDeploy's SDKs, any other endpoint those of the ComfyUI node.
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import ComfyDeployError
from ..request_models import DeploymentRun
from ..store.database import storable
from ..transfers.callbacks import CallbackTarget
from ..transfers.uploads import content_type
from .feed import PASSING
from .outputs import as_json, service_state
from .prepare import read_stored
from .progress import name_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ..machines.registry import MachineRegistry
    from ..request_models import RunRequest
    from ..transfers.queue import TransferRecord, Transfers
    from .feed import RunEvent
    from .progress import NodeName
    from .records import RunRecord, RunRepository
    from .run import Run

log = logging.getLogger(__name__)


def webhook_target(request: RunRequest, prompt_id: str) -> CallbackTarget | None:
    webhook = request.webhook if isinstance(request, DeploymentRun) else None
    if webhook is None:
        return None
    facts = {"view_url": webhook.view_url, "intermediate": webhook.intermediate}
    return CallbackTarget(prompt_id, session="", status_endpoint=webhook.url, webhook=facts)


def webhook_message(
    target: CallbackTarget, record: RunRecord, run: Run | None, nodes: Mapping[str, NodeName]
) -> bytes:
    """Return the message about the present state of a run, which is noted as reported."""
    assert target.webhook is not None
    target.reported_status = record.status
    state = service_state(record, run, target.webhook["view_url"], nodes)
    return as_json({"run_id": target.prompt_id, **state})


# Events of this package, which are sent to the endpoint in another form or not at all.
_OURS = frozenset({"", "live_status", "output_ready", "preview", "result", "status"})
# For these kinds of outputs the ComfyUI node (2.3.10) interprets plain text as a file path.
_PATH_KINDS = ("model_file", "result")
_SILENT_CLASS = "PreviewImage"  # the ComfyUI node does not report outputs of this class


class Delivery:
    """Reports runs to their ``status_endpoint`` and uploads their outputs.

    The messages are those of the ComfyUI node (2.3.10, ``custom_routes.py``): statuses, live
    statuses, ComfyUI's own events, and the output of each node, once its files are uploaded.
    """

    def __init__(
        self, transfers: Transfers, machines: MachineRegistry, repository: RunRepository
    ) -> None:
        self._transfers = transfers
        self._callbacks = transfers.callbacks
        self._machines = machines
        self._repository = repository

    async def open(self) -> None:
        """Report the ends of runs that the previous server stored, but did not report."""
        await self.recover_orphans(self._callbacks.targets())

    async def recover_orphans(self, targets: list[CallbackTarget]) -> None:
        for target in targets:
            try:
                await self._recover(target)
            except ComfyDeployError:
                raise  # the store cannot be read
            except Exception:  # the server starts nevertheless, and reports other ends
                log.exception("The end of run %s cannot be reported", target.prompt_id)

    async def _recover(self, target: CallbackTarget) -> None:
        record = await self._repository.get(target.prompt_id)
        if record is None:
            self._callbacks.finish(target)
        elif record.finished:
            prompt, _ = await self._repository.prompt(target.prompt_id) or (None, None)
            machine = self._machines.find(record.machine)
            definitions = None if machine is None else machine.known_definitions
            stored_graph = await read_stored(prompt, definitions, record.targets)
            self._report_end(target, record, stored_graph.nodes)

    @staticmethod
    def is_wanted(request: RunRequest) -> bool:
        return bool(
            request.status_endpoint or request.file_upload_endpoint or webhook_target(request, "")
        )

    async def begin(self, request: RunRequest, prompt_id: str) -> None:
        """Store the reports and uploads that a request asks for, before ComfyUI gets the run."""
        target = webhook_target(request, prompt_id) or CallbackTarget(
            prompt_id,
            session="",
            status_endpoint=request.status_endpoint or None,
            file_upload_endpoint=request.file_upload_endpoint or None,
            token=request.given_key,
            gpu_event_id=request.gpu_event_id,
        )
        await self._callbacks.add(target)

    def forget(self, prompt_id: str) -> None:
        target = self._callbacks.target(prompt_id)
        if target is not None:
            self._callbacks.finish(target)

    def handle_event(self, run: Run, event: RunEvent) -> None:
        """Report an event of a run. This is a follower of all runs."""
        target = self._callbacks.target(run.prompt_id)
        if target is None:
            return
        status = run.record.status
        if target.webhook is not None:
            # It gets a message about each new state, and about the progress.
            passing = target.reported_status == status
            wanted = target.webhook["intermediate"] and not run.record.finished
            if wanted and (event.event == "live_status" or not passing):
                message = webhook_message(target, run.record, run, run.nodes)
                self._callbacks.send(target, message, passing=passing)
            if event.event == "status":
                self._report_end(target, run.record, run.nodes)
            return
        # The first event about uploads is emitted after that state was stored.
        if status == "running" or (status == "uploading" and event.event == "live_status"):
            self._report_status(target, status)
        if event.event == "live_status":
            live = {key: event.data[key] for key in ("live_status", "progress")}
            self._send(target, live, passing=True)
        elif event.event == "output_ready" and target.file_upload_endpoint is None:
            node = str(event.data.get("node"))
            output = run.record.outputs.get(node, {})
            self._report_output(target, node, output, run.live_status.name(node))
        elif event.event == "status":
            self._report_end(target, run.record, run.nodes)
        if event.event not in _OURS:
            parts = json.dumps(target.prompt_id).encode(), event.text.encode()
            body = b'{"run_id": %s, "ws_event": %s}' % parts
            self._callbacks.send(target, body, passing=event.event in PASSING)
        if event.event == "execution_error":
            target.reported_error = True
            self._send(target, {"output_data": event.data, "node_meta": None})

    def uploads(self, prompt_id: str) -> bool:
        target = self._callbacks.target(prompt_id)
        return target is not None and target.file_upload_endpoint is not None

    async def upload(
        self, run: Run, record: RunRecord, queued: Callable[[], Awaitable[None]]
    ) -> dict[str, Any] | None:
        """Upload all outputs of a run; report each node's output once its files are uploaded."""
        target = self._callbacks.target(run.prompt_id)
        if target is None or target.file_upload_endpoint is None:
            return None
        begin = asyncio.Event()
        try:
            uploads = await self._transfers.upload_outputs(
                run.prompt_id,
                record.machine,
                await self._files(record),
                endpoint=target.file_upload_endpoint,
                token=target.token,
                begin=begin,
            )
            await queued()
        finally:
            begin.set()
        by_node: dict[str, list[TransferRecord]] = {node: [] for node in record.outputs}
        stored = {storable(node): node for node in by_node}
        for upload in uploads:
            node = stored.get(storable(str(upload.node_id)), str(upload.node_id))
            by_node.setdefault(node, []).append(upload)
        ended = await asyncio.gather(
            *(self._upload_node(run, target, node, group) for node, group in by_node.items())
        )
        for upload in (upload for group in ended for upload in group):
            if upload.state == "failed":
                name = run.live_status.name(str(upload.node_id))
                return {
                    "type": "UploadFailed",
                    "message": f"{upload.filename} could not be uploaded: {upload.error}",
                    "node_id": upload.node_id,
                    "node_type": name.class_type,
                }
        return None

    async def _upload_node(
        self, run: Run, target: CallbackTarget, node: str, uploads: list[TransferRecord]
    ) -> list[TransferRecord]:
        ended = [await self._transfers.queue.wait(upload) for upload in uploads]
        output = _with_addresses(run.record.outputs.get(node, {}), ended)
        self._report_output(target, node, output, run.live_status.name(node))
        return ended

    async def _files(self, record: RunRecord) -> list[tuple[str, list[str | int], dict[str, str]]]:
        """Return the files in the outputs of a run, without temporary files."""
        found: list[tuple[str, list[str | int], dict[str, str]]] = []
        for node, output in record.outputs.items():
            for kind, items in output.items():
                for number, item in enumerate(items if isinstance(items, list) else ()):
                    file = _file_of(kind, item)
                    if file is None or file["type"] == "temp":
                        continue
                    if not isinstance(item, str) or await self._is_there(record.machine, file):
                        found.append((node, [kind, number], file))
        return found

    async def _is_there(self, machine_id: str, file: dict[str, str]) -> bool:
        """Return whether there is an output file at the path that a text may be."""
        try:
            machine = self._machines.get(machine_id)
            opened = await machine.open_file(file["type"], file["subfolder"], file["filename"])
        except ComfyDeployError:
            return False
        if opened is not None:
            await asyncio.to_thread(opened.close)
        return opened is not None

    def _report_end(
        self, target: CallbackTarget, record: RunRecord, nodes: dict[str, NodeName]
    ) -> None:
        """Report what is not reported yet: the outputs, then the error, and last the status."""
        if target.webhook is not None:
            if target.reported_status != record.status:
                self._callbacks.send(target, webhook_message(target, record, None, nodes))
            self._callbacks.finish(target)
            return
        for node, output in record.outputs.items():
            self._report_output(target, node, output, name_in(nodes, node))
        if record.error is not None and not target.reported_error:
            target.reported_error = True
            self._send(target, {"output_data": {"error": record.error}, "node_meta": None})
        self._report_status(target, record.status)
        self._callbacks.finish(target)

    def _report_status(self, target: CallbackTarget, status: str) -> None:
        if target.reported_status is None and status == "uploading":
            self._report_status(target, "running")  # it ended before its start was noticed
        if target.reported_status != status:
            target.reported_status = status
            self._send(target, {"status": status, "gpu_event_id": target.gpu_event_id})

    def _report_output(
        self, target: CallbackTarget, node: str, output: dict[str, Any], name: NodeName | None
    ) -> None:
        class_type = name.class_type if name is not None else None
        if node in target.reported_outputs or class_type == _SILENT_CLASS:
            return
        target.reported_outputs.append(node)
        meta = {"node_id": node, "node_class": class_type}
        self._send(target, {"output_data": output, "node_meta": meta})

    def _send(self, target: CallbackTarget, data: dict[str, Any], *, passing: bool = False) -> None:
        body = json.dumps({"run_id": target.prompt_id, **data}).encode()
        self._callbacks.send(target, body, passing=passing)


def _file_of(kind: str, item: Any) -> dict[str, str] | None:
    if isinstance(item, str) and kind in _PATH_KINDS and item:
        path = PurePosixPath(item)
        item = {"filename": path.name, "subfolder": str(path.parent).removeprefix(".")}
    name = item.get("filename") if isinstance(item, dict) else None
    if not isinstance(name, str) or not name:
        return None
    return {
        "filename": name,
        "subfolder": str(item.get("subfolder") or ""),
        "type": str(item.get("type") or "output"),
        "content_type": content_type(name, item.get("content_type") or item.get("format")),
    }


def _with_addresses(output: dict[str, Any], uploads: list[TransferRecord]) -> dict[str, Any]:
    """Return a node's output with the address of each file that was uploaded."""
    found = {k: list(items) if isinstance(items, list) else items for k, items in output.items()}
    for upload in uploads:
        if upload.state != "done":
            continue
        kind, number = upload.facts["place"]
        item = found[kind][number]
        if not isinstance(item, dict):
            item = {key: upload.facts["item"][key] for key in ("filename", "subfolder", "type")}
        address = {"url": upload.facts.get("download_url")}
        if "is_public" in upload.facts:
            address["is_public"] = upload.facts["is_public"]
        found[kind][number] = {**item, **address}
    return found
