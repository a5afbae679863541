"""Credentials for a ComfyUI behind a reverse proxy: headers, a password, certificates."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from ..errors import InvalidRequestError
from ..util.certificates import client_context
from ..util.proxy_headers import HOP_BY_HOP
from .transport import PLAIN, Access

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110, 5.1
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,8192}")
# Headers that belong to one message or connection; ComfyUI compares Origin with Host.
_OURS = HOP_BY_HOP | {
    *("content-length", "content-type", "content-encoding", "expect", "host", "origin")
}


@dataclass(frozen=True)
class Credentials:
    """The headers for each request to a ComfyUI, and the certificates for its connections."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    authorization: str = field(default="", repr=False)  # for the user and password in the address
    # PEM files; the key may be in the file of the certificate
    client_cert: str = ""
    client_key: str = ""
    ca: str = ""  # the authorities that are trusted instead of those of the system

    @property
    def all_headers(self) -> dict[str, str]:
        """The headers of each request, with the one for user and password."""
        password = {"Authorization": self.authorization} if self.authorization else {}
        return {**self.headers, **password}

    def read(self) -> Access:
        """Read the certificates, and return the `Access` for connections. Call it in a thread."""
        headers = self.all_headers
        context = client_context(
            client_cert=self.client_cert, client_key=self.client_key, ca=self.ca
        )
        return Access(context, headers) if context or headers else PLAIN


NONE = Credentials()


def split_address(url: str) -> tuple[str, str]:
    """Return an address without user and password, and the ``Authorization`` for these.

    The second item is ``""`` if the address has none. Errors do not contain the address.
    """
    try:
        parts = urlsplit(url)
        userinfo, at, host = parts.netloc.rpartition("@")
    except ValueError:
        raise InvalidRequestError.of_field("comfyui_url", "is not an address") from None
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise InvalidRequestError.of_field(
            "comfyui_url", "has an @ after its host; write / ? # in a password as %2F %3F %23"
        )
    if not at:
        return url, ""
    user, _, password = userinfo.partition(":")
    pair = f"{unquote(user)}:{unquote(password)}".encode()
    return urlunsplit(
        (parts.scheme, host, parts.path, parts.query, parts.fragment)
    ), f"Basic {base64.b64encode(pair).decode()}"


def check_headers(given: Mapping[str, str]) -> dict[str, str]:
    """Return headers that may be sent with each request; an error has no values."""
    for name, value in given.items():
        if not _NAME.fullmatch(name):
            raise InvalidRequestError.of_field(
                "comfyui_headers", f"{name[:80]!r} is not the name of a header"
            )
        if name.lower() in _OURS:
            raise InvalidRequestError.of_field(
                "comfyui_headers", f"{name} belongs to each request and cannot be set"
            )
        if not _VALUE.fullmatch(value):
            raise InvalidRequestError.of_field(
                "comfyui_headers", f"the value of {name} is not one line of Latin-1 text"
            )
    return dict(given)
