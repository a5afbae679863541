"""A relay in front of ComfyUI that stores the time of each piece of a connection.

It runs in a separate process, and only forwards bytes and stores the time; the pieces are parsed as
WebSocket frames after the measurement. On Linux, ``time.monotonic`` is the same clock in all
processes of a machine, so these times can be compared with those of a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import time
from typing import TYPE_CHECKING, Any

from tests.helpers.comfyui import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

CHUNK = 1 << 18  # bytes read at once
Pieces = list[tuple[float, bytes]]


class Relay:
    """A TCP relay to a port of this machine.

    Parameters
    ----------
    target_port : int
        The port to which connections are forwarded.
    """

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_main, args=(self.port, target_port, theirs))
        self._process.start()
        self._pipe.recv()

    def close(self) -> list[Pieces]:
        """End the relay; return the data that the target has sent in each connection."""
        self._pipe.send(None)
        recorded: list[Pieces] = self._pipe.recv()
        self._process.join()
        return recorded


def text_frames(pieces: Pieces) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield the JSON messages of a WebSocket connection, with the times of their last bytes.

    A connection that never becomes a WebSocket has none; plain HTTP before it is skipped.
    ComfyUI sends no fragments, masks or compression to clients that do not request them.
    """
    stream = b"".join(data for _, data in pieces)
    upgrade = stream.find(b"HTTP/1.1 101")
    if upgrade < 0:
        return
    position = stream.index(b"\r\n\r\n", upgrade) + 4
    passed = iter(pieces)
    when, end = 0.0, 0
    while position + 2 <= len(stream):
        opcode, length = stream[position] & 15, stream[position + 1] & 127
        position += 2
        if length > 125:
            size = 2 if length == 126 else 8
            length = int.from_bytes(stream[position : position + size], "big")
            position += size
        payload = stream[position : position + length]
        position += length
        while end < position:
            try:
                when, data = next(passed)
            except StopIteration:
                return
            end += len(data)
        if opcode == 1:
            yield when, json.loads(payload)


def _main(port: int, target_port: int, pipe: Connection) -> None:
    asyncio.run(_serve(port, target_port, pipe))


async def _serve(port: int, target_port: int, pipe: Connection) -> None:
    recorded: list[Pieces] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces: Pieces = []
        recorded.append(pieces)
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", target_port)
        await asyncio.gather(
            _pass_on(reader, their_writer, None), _pass_on(their_reader, writer, pieces)
        )

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    pipe.send(None)
    await asyncio.to_thread(pipe.recv)
    server.close()
    pipe.send(recorded)


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pieces: Pieces | None
) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            if pieces is not None:
                pieces.append((time.monotonic(), data))
            writer.write(data)
            await writer.drain()
    writer.close()
