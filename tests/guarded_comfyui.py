"""A ComfyUI behind a reverse proxy that demands a header, a password and a client certificate."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ipaddress
import ssl
from typing import TYPE_CHECKING, Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.faulty_comfyui import FaultyComfyUI

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class GuardedComfyUI(FaultyComfyUI):
    """The proxy: it answers 401 unless each request has the right headers.

    Parameters
    ----------
    target : str
        The address of the real ComfyUI.
    wanted : mapping
        The headers that each request must have.
    certificates : Certificates, optional
        Its certificate, and those that clients must have.

    Attributes
    ----------
    seen : list of dict
        The headers of all requests.
    refused : list of str
        The paths of the requests that were refused.
    """

    def __init__(
        self, target: str, wanted: Mapping[str, str], certificates: Certificates | None = None
    ) -> None:
        super().__init__(target)
        self.wanted = dict(wanted)
        self.seen: list[dict[str, str]] = []
        self.refused: list[str] = []
        self.certificates = certificates

    async def _start(self) -> None:
        await super()._start()
        if self.certificates is not None:
            context = self.certificates.server_context()
            site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            self.url = f"https://127.0.0.1:{self._runner.addresses[1][1]}"

    async def _close(self) -> None:
        await super()._close()
        await asyncio.sleep(0.25)  # connections with TLS end later than the server

    def _check(self, request: web.Request) -> None:
        self.seen.append(dict(request.headers))
        if any(request.headers.get(name) != value for name, value in self.wanted.items()):
            self.refused.append(request.path)
            raise web.HTTPUnauthorized(text="the door is closed")

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        return await super()._pass_on(request)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        return await super()._socket(request)


class Certificates:
    """New certificates: an authority, a server at 127.0.0.1 and a client, in PEM files.

    Attributes
    ----------
    ca, server, client, client_key : pathlib.Path
        The files; the key of the server is in the file of its certificate.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        self._ca = self._sign("the authority", self._ca_key, None)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._ca.public_bytes(serialization.Encoding.PEM))
        self.server, self.client = folder / "server.pem", folder / "client.pem"
        self.client_key = folder / "client.key"
        for name, file, key_file in (
            ("server", self.server, self.server),
            ("client", self.client, self.client_key),
        ):
            key = ec.generate_private_key(ec.SECP256R1())
            made = self._sign(name, key, self._ca).public_bytes(serialization.Encoding.PEM)
            text = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            file.write_bytes(made)
            with key_file.open("ab") as target:
                target.write(text)

    def server_context(self) -> ssl.SSLContext:
        """Return the context of a server that accepts only clients with a certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.ca))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.server)
        return context

    def _sign(self, name: str, key: Any, issuer: x509.Certificate | None) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.timezone.utc)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)
            .add_extension(x509.SubjectAlternativeName([address]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key()),
                False,
            )
        )
        return builder.sign(self._ca_key, hashes.SHA256())


def basic(user: str, password: str) -> str:
    """Return the value of ``Authorization`` for a user."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
