"""A Jupyter server that records calls of its authorizer, and requests with a test's headers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_server.utils import url_path_join
from tornado.httpclient import HTTPClientError
from traitlets.config import Config

from comfydeploy_jupyter.handlers import all_routes
from comfydeploy_jupyter.handlers.base import Base
from tests.helpers.jupyterhub import RecordingAuthorizer
from tests.helpers.processes import OF_TESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
EVIL = "https://evil.example"


def routes() -> list[tuple[str, str]]:
    """Every method of every route of this extension, with an example for catch-all routes."""
    found = []
    known = dict(all_routes())
    for pattern, handler in known.items():
        if f"{pattern}/.*" in known:  # the same without a slash
            continue
        path = pattern.replace("/.*", "/no-such-route").replace("([^/]+)", "no-such-thing")
        ours = [kind for kind in handler.__mro__ if issubclass(kind, Base)]
        found += [
            (method, path)
            for method in METHODS
            if any(method.lower() in kind.__dict__ for kind in ours)
        ]
    return found


@pytest.fixture
def recorder() -> Iterator[type[RecordingAuthorizer]]:
    RecordingAuthorizer.reset()
    yield RecordingAuthorizer
    RecordingAuthorizer.reset()


@pytest.fixture
def settings() -> dict[str, Any]:
    """Further settings of the extension."""
    return {}


@pytest.fixture
def extension_config(tmp_path, settings) -> dict[str, Any]:
    """The tests check only whether requests are allowed; none needs a ComfyUI."""
    nothing = {"comfyui_url": "http://127.0.0.1:9", "autostart": False}
    return {**nothing, "data_dir": str(tmp_path / "data"), **settings}


@pytest.fixture
def allow_unauthenticated() -> bool:
    """Jupyter's own switch ``allow_unauthenticated_access``, which must make no difference."""
    return False


@pytest.fixture
def server_settings() -> dict[str, Any]:
    """Further settings of Jupyter."""
    return {}


@pytest.fixture
def jp_server_config(extension_config, allow_unauthenticated, server_settings):
    return Config(
        {
            "ServerApp": {
                "jpserver_extensions": {"comfydeploy_jupyter": True},
                "allow_unauthenticated_access": allow_unauthenticated,
                "authorizer_class": RecordingAuthorizer,
                **server_settings,
            },
            "ComfyDeploy": {**OF_TESTS, **extension_config},
        }
    )


@pytest.fixture
def call(extension, recorder, http_server_client, jp_base_url) -> Callable[..., Any]:
    """Call a path with only these headers; returns the response, also for errors."""

    async def fetch(method: str, path: str, headers: dict[str, str], body: Any = None) -> Any:
        if body is None and method in {"POST", "PUT", "PATCH"}:
            body = "{}"
        try:
            return await http_server_client.fetch(
                url_path_join(jp_base_url, path),
                method=method,
                body=body if isinstance(body, (str, bytes, type(None))) else json.dumps(body),
                headers=headers,
                follow_redirects=False,
                request_timeout=60,
                allow_nonstandard_methods=True,
            )
        except HTTPClientError as error:
            if error.response is None:
                raise
            return error.response

    return fetch


@pytest.fixture
def cookie(call, jp_auth_header, jp_asyncio_loop) -> dict[str, str]:
    """The cookies of a browser after login."""
    login = jp_asyncio_loop.run_until_complete(
        call("GET", "comfyui-deploy/check-ws-status", dict(jp_auth_header))
    )
    cookies = [value.split(";")[0] for value in login.headers.get_list("Set-Cookie")]
    assert cookies
    RecordingAuthorizer.calls.clear()
    return {"Cookie": "; ".join(cookies)}


@pytest.fixture
def xsrf(call, cookie, jp_base_url, jp_asyncio_loop) -> dict[str, str]:
    """The headers of a POST from Jupyter's own page: the cookies and the XSRF token."""
    page = jp_asyncio_loop.run_until_complete(call("GET", "login", {}))
    cookies = [value.split(";")[0] for value in page.headers.get_list("Set-Cookie")]
    (token,) = [value.partition("=")[2] for value in cookies if value.startswith("_xsrf=")]
    return {"Cookie": f"{cookie['Cookie']}; _xsrf={token}", "X-XSRFToken": token}


@pytest.fixture
def origin(jp_serverapp) -> str:
    """The origin of Jupyter's own pages."""
    return f"http://127.0.0.1:{jp_serverapp.port}"


def is_refusal(response: Any) -> bool:
    """Return whether a response rejects an unknown user: 403, JSON, no redirect.

    The Comfy API has its own form, with 401 for a user that is not known at all.
    """
    of_comfy_api = "/comfyui-deploy/api/v2/" in response.request.url
    codes = {401: "unauthorized", 403: "forbidden"} if of_comfy_api else {403: "unauthorized"}
    if response.code not in codes or "Location" in response.headers:
        return False
    if response.request.method == "HEAD":
        return True
    body = json.loads(response.body)
    if of_comfy_api:
        return bool(body["error"]["code"] == codes[response.code])
    return (body["success"], body["code"]) == (False, codes[response.code])
