"""The routes in Jupyter's application: they are imported when they are needed."""

import asyncio
import warnings

import pytest
from jupyter_server.serverapp import JupyterServerAuthWarning

from comfydeploy_jupyter.handlers import Mount, all_routes


@pytest.fixture
def slow_import(monkeypatch):
    """Requests come before the handlers are imported; the import is noted."""
    noted = []
    load = Mount.load

    def load_late(self):
        noted.append("load")
        return load(self)

    monkeypatch.setattr(Mount, "load", load_late)
    return noted


async def test_requests_that_come_too_early_wait(slow_import, jp_serverapp, api):
    extension = jp_serverapp.web_app.settings["comfydeploy"]
    extension._mount._routes = None
    answers = await asyncio.gather(
        api.get("check-status"),
        api.post("workflow/validate", {}),
        api.raw("POST", "upload-file", body=b"{}"),
        return_exceptions=True,
    )
    assert slow_import
    assert [getattr(one, "code", None) or one[0] for one in answers] == [200, 400, 400]


async def test_every_method_needs_authentication(jp_serverapp):
    """Jupyter looks for the decorator at handlers that are mounted without a router."""
    application = jp_serverapp.web_app
    application.settings["allow_unauthenticated_access"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("error", JupyterServerAuthWarning)
        application.add_handlers(".*$", [(f"/{path}", kind) for path, kind in all_routes()])
