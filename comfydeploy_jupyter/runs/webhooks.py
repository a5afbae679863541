"""Webhooks of runs, as ComfyDeploy's SDKs request them: which messages they get, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..schemas.deployments import DeploymentRun
from ..transfers.callback_records import CallbackTarget
from .deployment_form import as_json, service_state

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..schemas import RunRequest
    from .live import NodeName
    from .log import RunEvent
    from .records import RunRecord
    from .run import Run


def webhook_target(request: RunRequest, prompt_id: str) -> CallbackTarget | None:
    """Return the callback target of a request that names a webhook, else None."""
    webhook = request.webhook if isinstance(request, DeploymentRun) else None
    if webhook is None:
        return None
    facts = {"view_url": webhook.view_url, "intermediate": webhook.intermediate}
    return CallbackTarget(prompt_id, session="", status_endpoint=webhook.url, webhook=facts)


def state_message(target: CallbackTarget, run: Run, event: RunEvent) -> tuple[bytes, bool] | None:
    """Return the message about an event before the end, and whether a later one replaces it.

    None if the webhook gets no message about it. It gets one for each new state, and for progress.
    """
    status = run.record.status
    if target.webhook is None or not target.webhook["intermediate"] or run.record.finished:
        return None
    passing = target.reported_status == status
    if passing and event.event != "live_status":
        return None
    target.reported_status = status
    return _message(target, run.record, run, run.nodes), passing


def end_message(
    target: CallbackTarget, record: RunRecord, nodes: Mapping[str, NodeName]
) -> bytes | None:
    """Return the message about the end of a run; None if it is sent already."""
    if target.reported_status == record.status:
        return None
    target.reported_status = record.status
    return _message(target, record, None, nodes)


def _message(
    target: CallbackTarget, record: RunRecord, run: Run | None, nodes: Mapping[str, NodeName]
) -> bytes:
    assert target.webhook is not None
    state = service_state(record, run, target.webhook["view_url"], nodes)
    return as_json({"run_id": target.prompt_id, **state})
