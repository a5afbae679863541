"""The credentials for the ComfyUI of a machine, in requests and in its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..comfyui.client import NONE, Credentials, check_headers, split_address
from ..errors import InvalidRequestError
from ..util.secrets import MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..schemas import MachineConfig

_FILES = ("client_cert", "client_key", "ca")
CREDENTIAL_FIELDS = (
    "comfyui_headers",
    "comfyui_authorization",
    *(f"comfyui_{name}" for name in _FILES),
)
"""The fields of a machine's record."""


def credentials_of(config: Mapping[str, Any], configured: Credentials = NONE) -> Credentials:
    """Return the credentials in a machine's record.

    Those that the record does not have are the configured ones, unless the record has an address of
    its own: credentials are for one server only.
    """
    base = NONE if config.get("comfyui_url") else configured
    return Credentials(
        headers=config.get("comfyui_headers", base.headers),
        authorization=config.get("comfyui_authorization", base.authorization),
        **{name: config.get(f"comfyui_{name}", getattr(base, name)) for name in _FILES},
    )


def checked_credentials(request: MachineConfig, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the record for the credentials in a request. This reads certificates.

    A new address without credentials removes the stored ones, since these are for another server.
    """
    given: dict[str, Any] = {}
    moved = False
    if request.comfyui_url:
        url, authorization = split_address(request.comfyui_url)
        moved = url.rstrip("/") != known.get("comfyui_url")
        if moved:
            given = {"comfyui_headers": {}, **{f"comfyui_{name}": "" for name in _FILES}}
        if moved or authorization:
            given["comfyui_authorization"] = authorization
    if request.comfyui_headers is not None:
        stored = {} if moved else known.get("comfyui_headers", {})
        headers = {**stored, **request.comfyui_headers}
        for name, value in headers.items():
            if value == MASK and name not in stored:
                raise InvalidRequestError.of_field(
                    "comfyui_headers", f"{name}: the value is not known here; give it"
                )
            if value == MASK:
                headers[name] = stored[name]
        given["comfyui_headers"] = check_headers(
            {name: value for name, value in headers.items() if value is not None}
        )
    for name in _FILES:
        value = getattr(request, f"comfyui_{name}")
        if value is not None:
            given[f"comfyui_{name}"] = value
    if given:
        credentials_of({**known, **given}).read()
    return given
