"""Settings of servers, and connections to them, for several files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jupyter_server.utils import url_path_join
from tornado.httpclient import HTTPClientError

from tests.helpers.bodies import Wire

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def without_comfyui(tmp_path) -> dict[str, Any]:
    """The settings of a server that has no ComfyUI."""
    return {
        "comfyui_url": "http://127.0.0.1:9",
        "data_dir": str(tmp_path / "data"),
        "autostart": False,
    }


@pytest.fixture(params=["disk", "comfyui"])
def disk_or_comfyui(request, comfyui, tmp_path) -> dict[str, Any]:
    """Settings with which ComfyUI's files are read from the disk, or through its API."""
    config = {"comfyui_url": comfyui.url, "data_dir": str(tmp_path / "data")}
    return config | ({"comfyui_path": str(comfyui.path)} if request.param == "disk" else {})


@pytest.fixture
def wire(extension, http_server_client, jp_http_port, jp_base_url, jp_auth_header) -> Wire:
    """Sends requests to the server as bytes."""
    return Wire(jp_http_port, jp_base_url, jp_auth_header["Authorization"].split()[1])


@pytest.fixture
def call(extension, http_server_client, jp_base_url) -> Callable[..., Any]:
    """Sends a request as it is, without a login; errors are responses, and redirects too."""

    async def fetch(method: str, path: str, headers: dict[str, str], body: Any = None) -> Any:
        try:
            return await http_server_client.fetch(
                url_path_join(jp_base_url, path),
                method=method,
                body=body,
                headers=headers,
                follow_redirects=False,
                request_timeout=60,
            )
        except HTTPClientError as error:
            return error.response

    return fetch
