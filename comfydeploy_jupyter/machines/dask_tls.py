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
from typing import Any

from ..dask_clusters import pem
from ..errors import ComfyUIUnavailableError
from ..util.sockets import Peers
from ..util.tasks import BackgroundTasks, end

HANDSHAKE_TIMEOUT = 10.0  # seconds that a client has to complete the TLS handshake
BACKLOG = 256
ANSWER_TIMEOUT = 5.0  # seconds
CHUNK = 256 * 1024  # bytes that are read at once


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


async def serve(
    listener: socket.socket, port: int, context: ssl.SSLContext | None, stop: asyncio.Event
) -> None:
    """Forward connections until ``stop`` is set."""
    connections = BackgroundTasks()
    server = await asyncio.start_server(
        lambda *streams: connections.start(_forward(port, *streams), "A connection to ComfyUI"),
        sock=listener,
        backlog=BACKLOG,
        ssl=context,
        ssl_handshake_timeout=None if context is None else HANDSHAKE_TIMEOUT,
    )
    await stop.wait()
    server.close()
    await connections.close()


async def _forward(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connect a client to ComfyUI, until one of the two closes its connection."""
    inner: asyncio.StreamWriter | None = None
    sending: list[asyncio.Task[None]] = []
    try:
        answers, inner = await asyncio.open_connection("127.0.0.1", port)
        await Peers().check(inner.transport, f"http://127.0.0.1:{port}")
        for source, target in ((reader, inner), (answers, writer)):
            sending.append(asyncio.ensure_future(_pump(source, target)))
        await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        if sending[0].done() and sending[0].exception() is not None:
            # ComfyUI refuses the rest of a request: the client gets its answer
            await asyncio.wait(sending[1:], timeout=ANSWER_TIMEOUT)
    except (OSError, ComfyUIUnavailableError):
        writer.transport.abort()
    finally:
        await end(sending)
        writer.close()  # after all written bytes have been sent
        if inner is not None:
            inner.close()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Send all bytes that arrive on, no faster than they are received."""
    while data := await source.read(CHUNK):
        target.write(data)
        await target.drain()


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
        found = json.load(file)
    listener = socket.socket(fileno=arguments.listener)
    listener.setblocking(False)
    context = None if found is None else Certificates(**found).server_context()
    asyncio.run(_main(listener, arguments.port, context))


if __name__ == "__main__":
    main()
