"""``app``: a page that shows only a RunPanel, for somebody who gets its address from a colleague.

The page needs no notebook and no kernel. Its script speaks with the routes by Jupyter's cookie, as
JupyterLab does, so the page contains no token.
"""

from __future__ import annotations

import asyncio
import html
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.utils import url_path_join

from ..errors import NotFoundError
from ..request_models import (
    RUN_ID,
    Identifier,
    Model,
    VersionField,
    WorkflowIdField,
    optional,
)
from ..runs.records import FINAL
from . import route
from .auth import PageAuth
from .base import Base
from .route import Content

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..runs.records import RunRecord

# What the panel needs, and nothing of another site.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' blob: data:;"
    " media-src 'self' blob:; connect-src 'self' blob:; base-uri 'none'; form-action 'none'"
)
PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="{base}static/favicons/favicon.ico">
<style>:root {{ color-scheme: light dark; }} body {{ margin: 0; color: CanvasText;
background: light-dark(#fff, #181818); font: 15px system-ui, sans-serif; }}
body > main.comfydeploy-panel {{ border: 0; border-radius: 0; max-width: none; }}
main > p {{ max-width: 40em; margin: 20vh auto; padding: 0 1em; }}</style></head>
<body><main><p role="status">{text}</p></main>{scripts}</body></html>
"""
SCRIPTS = """
<script type="application/json" id="jupyter-config-data">{config}</script>
<script type="application/json" id="comfydeploy-app">{shown}</script>
<script type="module" src="{base}static/comfydeploy/app.js"></script>
<noscript>This page needs JavaScript.</noscript>"""


class AppQuery(Model):
    workflow_id: WorkflowIdField = None
    version: VersionField = None
    run_id: Identifier | None = optional(
        "The id of a run: the panel shows its result and its values, by default with its workflow.",
        RUN_ID,
    )


class AppHandler(PageAuth, Base):
    tag = "Workflows"

    @property
    def content_security_policy(self) -> str:
        return f"{POLICY}; {super().content_security_policy}"

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")

    async def prepare(self) -> None:  # type: ignore[override]  # as in Handler
        await cast("Awaitable[None]", super().prepare())
        is_asking = self.request.method == "OPTIONS"  # which says nothing to anybody
        if not is_asking and not self.has_begun and not self.sends_to_login():
            await self.authorize()
            self.xsrf_token  # noqa: B018 - sets the cookie, which a link with a token has not got

    @allow_unauthenticated
    def options(self) -> None:
        """Say nothing: no page of another origin may ask for this one."""
        self.finish()

    @route.get("app", "showApp")
    @route.replies(Content("text/html", {"type": "string"}, "<!DOCTYPE html>"), "The page.")
    @route.errors(NotFoundError)
    async def show_app(self, query: AppQuery) -> None:
        """A page that shows a RunPanel without a notebook: its address is for colleagues.

        Whoever opens it logs in to Jupyter first. Without `workflow_id` the panel offers all
        workflows. A browser gets errors as a page, too.
        """
        record = None
        if query.run_id is not None:
            record = await self.services.runs.record(query.run_id)
        workflow = await self._workflow(query, record)
        shown: dict[str, Any] = {"shown_workflow": workflow}
        if record is not None:
            ended = record.status in FINAL
            shown["result"] = self.services.runs.reply(record) if ended else None
            shown["queued"] = [] if ended else [record.prompt_id]
        self.note_activity()
        await self.finish(await asyncio.to_thread(self._page, **shown))

    async def _workflow(self, query: AppQuery, record: RunRecord | None) -> dict[str, Any] | None:
        """Return the workflow as the panel takes it; None if there is none."""
        workflow_id, version = query.workflow_id, query.version
        if workflow_id is None and record is not None:
            workflow_id, version = record.workflow_id, record.version
            if workflow_id is not None:
                with suppress(NotFoundError):  # it was deleted since
                    return await self._stored(workflow_id, version)
            graph, ui = await self.services.runs.graph(record.prompt_id)
            source = {"workflow_api": graph.decode()} | ({"workflow": ui.decode()} if ui else {})
            return {"title": "Workflow of a run", "source": source, "warnings": []}
        if workflow_id is None:
            return None
        return await self._stored(workflow_id, version if isinstance(version, int) else None)

    async def _stored(self, workflow_id: str, number: int | None) -> dict[str, Any]:
        stored = self.services.local_workflows
        found = await stored.version(workflow_id, number)
        name = await stored.name(workflow_id)
        source = {"workflow_id": workflow_id, "version": found["version"]}
        return {"title": name, "source": source, "warnings": []}

    def _page(self, error: str = "", *, panel: bool = True, **shown: Any) -> str:
        """Return the page; ``shown`` are traits of the panel. Without one, it is the error only."""
        base = url_path_join(self.base_url, "/")
        scripts = SCRIPTS.format(
            base=html.escape(base),
            config=_json({"baseUrl": base}),
            shown=_json({**shown, "error": error}),
        )
        return PAGE.format(
            base=html.escape(base),
            title=html.escape((shown.get("shown_workflow") or {}).get("title") or "ComfyUI"),
            text="Opening …" if panel else html.escape(error),
            scripts=scripts if panel else "",
        )

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send an error as a page, where the panel can be used nevertheless, to a browser."""
        if not self.is_visit:
            super().write_error(status_code, **kwargs)
            return
        error = self.error_of(kwargs.get("exc_info", (None, None, None))[1], status_code)
        self.set_status(error.status)
        self.finish(self._page(error.message, panel=self._is_admitted))


def _json(value: Any) -> str:
    """Return JSON for an element of a page, whose end no text in it can be."""
    return json.dumps(value).replace("<", "\\u003c")
