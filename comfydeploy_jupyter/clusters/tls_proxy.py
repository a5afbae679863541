"""The TLS proxy: a process in front of a ComfyUI on a worker's node.

It listens at the node's address and uses mutual TLS: it accepts only clients that have a
certificate of the cluster. It forwards the bytes of each connection to ComfyUI's port on the
loopback interface, and does not interpret them, so it works for HTTP and for WebSockets. A process
of another user, who has taken the port after ComfyUI's end, receives nothing.

It is a separate process, so that a busy interpreter of the worker does not delay any bytes, and so
that the lease can suspend it (SIGSTOP) while it checks whether ComfyUI is idle.

It inherits its listening socket, and reads its certificates from a file descriptor. So the
certificates are in no argument, no environment variable and no file with a name.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
from typing import TYPE_CHECKING, cast

from ..errors import ComfyUIUnavailableError
from ..util.peers import Peers
from .tls import read_certificates

if TYPE_CHECKING:
    import ssl

HANDSHAKE_WITHIN = 10.0  # seconds that a client has to complete the TLS handshake
BACKLOG = 256


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
        ssl_handshake_timeout=None if context is None else HANDSHAKE_WITHIN,
    )
    await stop.wait()
    server.close()


async def _main(listener: socket.socket, port: int, context: ssl.SSLContext | None) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve(listener, port, context, stop)


def main() -> None:
    """Run the proxy; a lease starts this program."""
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
