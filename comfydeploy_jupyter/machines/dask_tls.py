"""TLS between the servers of a cluster: certificates, and the proxy in front of a ComfyUI."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import ssl
import tempfile
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from ..dask_clusters import pem
from ..errors import ComfyUIUnavailableError
from ..util.sockets import Peers

HANDSHAKE_TIMEOUT = 10.0  # seconds that a client has to complete the TLS handshake
BACKLOG = 256


@dataclass(frozen=True)
class Certificates:
    """The certificates with which the processes of a cluster authenticate each other."""

    ca: str  # the certificate of the authority that signed all others, as PEM text
    cert: str  # the certificate of this process, as PEM text; it may contain the key
    key: str = field(default="", repr=False)

    @classmethod
    def of_security(cls, security: Any, role: str) -> Certificates | None:
        """Return the certificates in a ``distributed.Security``; None if it has none."""
        if security is None:
            return None
        config = security.get_tls_config_for_role(role)
        if not config["ca_file"] or not config["cert"]:
            return None
        return cls(*(pem(config[name] or "", name) for name in ("ca_file", "cert", "key")))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def server_context(self) -> ssl.SSLContext:
        """Return the context of a server that accepts only clients of the cluster."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self.ca)
        return self._completed(context)

    def client_context(self) -> ssl.SSLContext:
        """Return the context of a client that accepts only servers of the cluster.

        Host names are not checked: the certificates of clusters contain none, because workers start
        and end at any time.
        """
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=self.ca)
        context.check_hostname = False
        return self._completed(context)

    def _completed(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        # default since Python 3.13; distributed's temporary certificates lack fields it requires
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # mode 0600
            file.write(f"{self.cert}\n{self.key}\n")
            file.flush()
            context.load_cert_chain(file.name)
        return context


def read_certificates(text: bytes | str) -> Certificates | None:
    found = json.loads(text)
    return None if found is None else Certificates(**found)


class _Side(asyncio.Protocol):
    """One of the two connections of a client; sends all bytes that it receives to the other one."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()  # after all written bytes have been sent

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class _Client(_Side):
    """The connection of a client. It is read only once ComfyUI is connected."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        inner = _Side()
        inner.other, self.other = self, inner
        try:
            connected, _ = await asyncio.get_running_loop().create_connection(
                lambda: inner, "127.0.0.1", self._port
            )
            await Peers().check(connected, f"http://127.0.0.1:{self._port}")
        except (OSError, ComfyUIUnavailableError):
            for side in (self, inner):
                if side.transport is not None:
                    side.transport.abort()
            return
        if self.transport is None:  # the client has disconnected in the meantime
            connected.close()
        else:
            self.transport.resume_reading()


async def serve(
    listener: socket.socket, port: int, context: ssl.SSLContext | None, stop: asyncio.Event
) -> None:
    """Forward connections until ``stop`` is set."""
    server = await asyncio.get_running_loop().create_server(
        lambda: _Client(port),
        sock=listener,
        backlog=BACKLOG,
        ssl=context,
        ssl_handshake_timeout=None if context is None else HANDSHAKE_TIMEOUT,
    )
    await stop.wait()
    server.close()


async def _main(listener: socket.socket, port: int, context: ssl.SSLContext | None) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve(listener, port, context, stop)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listener", type=int, required=True, help="a listening socket")
    parser.add_argument(
        "--certificates", type=int, required=True, help="descriptor of a file with them"
    )
    parser.add_argument("--port", type=int, required=True, help="ComfyUI's port")
    arguments = parser.parse_args()
    with open(arguments.certificates, "rb") as file:  # noqa: PTH123 - a descriptor has no path
        certificates = read_certificates(file.read())
    listener = socket.socket(fileno=arguments.listener)
    listener.setblocking(False)
    context = None if certificates is None else certificates.server_context()
    asyncio.run(_main(listener, arguments.port, context))


if __name__ == "__main__":
    main()
