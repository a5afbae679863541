"""Webhooks of runs, which ComfyDeploy's SDKs ask for: what they are told, and when."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..schemas.deployments import DeploymentRun
from ..store.callbacks import Order
from .deployment_form import service_state

if TYPE_CHECKING:
    from ..schemas import RunRequest
    from ..store.runs import RunRecord
    from .log import RunEvent
    from .run import Run


def webhook_order(request: RunRequest, prompt_id: str) -> Order | None:
    """Return the order of a request that names a webhook, else None."""
    webhook = request.webhook if isinstance(request, DeploymentRun) else None
    if webhook is None:
        return None
    facts = {"view_url": webhook.view_url, "intermediate": webhook.intermediate}
    return Order(prompt_id, session="", status_endpoint=webhook.url, webhook=facts)


def state_message(order: Order, run: Run, event: RunEvent) -> tuple[bytes, bool] | None:
    """Return the message about an event before the end, and whether a later one replaces it.

    None if the webhook is not told of it. Each new state is told; in a state only the progress.
    """
    status = run.record.status
    if order.webhook is None or not order.webhook["intermediate"] or run.record.finished:
        return None
    passing = order.told_status == status
    if passing and event.event != "live_status":
        return None
    order.told_status = status
    return _message(order, run.record, run), passing


def end_message(order: Order, record: RunRecord) -> bytes | None:
    """Return the message about the end of a run; None if it is sent already."""
    if order.told_status == record.status:
        return None
    order.told_status = record.status
    return _message(order, record, None)


def _message(order: Order, record: RunRecord, run: Run | None) -> bytes:
    assert order.webhook is not None
    state = service_state(record, run, order.webhook["view_url"])
    return json.dumps({"run_id": order.prompt_id, **state}).encode()
