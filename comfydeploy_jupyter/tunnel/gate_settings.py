"""The settings of a gate: what it leads to, and the secret that opens it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..util.certificates import client_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Upstream:
    """What the service behind a gate asks for: the gate sends it, and visitors never see it.

    Attributes
    ----------
    headers : mapping of str to str
        Headers of each request; they replace those of visitors.
    client_cert, client_key, ca : str
        PEM files: the certificate and the key of this client, and the authorities that are trusted
        instead of those of the system. The key may be in the file of the certificate.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    client_cert: str = ""
    client_key: str = ""
    ca: str = ""

    def tls(self) -> ssl.SSLContext | None:
        """Return the context of connections; None for the system's. This reads files.

        Raises
        ------
        InvalidRequestError
            If a file cannot be used; it names the setting.
        """
        return client_context(client_cert=self.client_cert, client_key=self.client_key, ca=self.ca)


@dataclass(frozen=True)
class GateSettings:
    """The settings of a gate.

    Attributes
    ----------
    target : str
        Address of the service behind the gate, e.g. ``http://127.0.0.1:8188``.
    secret : str
        The secret that gives access.
    trusted_users : sequence of str
        Users whose process may be behind the gate; see `Peers`.
    upstream : Upstream
        What the service asks for.
    """

    target: str
    secret: str = field(repr=False)
    trusted_users: Sequence[str] = ()
    upstream: Upstream = field(default_factory=Upstream)

    @property
    def host(self) -> str | None:
        """The ``Host`` that the service gets; None if it gets the one of the visitor.

        A reverse proxy chooses the service by this name, so a service on another machine, or one
        that asks for credentials, gets its own.
        """
        parts = urlsplit(self.target)
        if self.upstream == Upstream() and _is_local(parts.hostname or ""):
            return None
        return parts.netloc

    def to_json(self) -> bytes:
        """Return the settings as JSON for the pipe."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> GateSettings:
        """Return the settings that `to_json` has written."""
        found = json.loads(text)
        return cls(**{**found, "upstream": Upstream(**found["upstream"])})


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
