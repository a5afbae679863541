"""A TCP relay in front of a server, which simulates network errors."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass


@dataclass(eq=False)
class _Pair:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    websocket: bool = False
    half_closed: bool = False


class Relay:
    """Forwards bytes between clients and one server, and simulates errors on request.

    The connection of each request for the path `deny` is closed.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.port = port
        self.delay = 0.0
        self.deny: str | None = None
        self.websockets = 0
        self._target = target
        self._pairs: set[_Pair] = set()
        self._refusals = 0
        self._disconnected = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Accept connections, for the first time or again."""
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Close all connections and the listening socket, as a server that has ended does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._refusals += 1
        self.cut()

    def disconnect(self) -> None:
        """Close all connections, also new ones: the server lives, but is out of reach."""
        self._disconnected = True
        self._refusals += 1
        self.cut()

    def reconnect(self) -> None:
        self._disconnected = False

    def cut(self, *, websockets_only: bool = False) -> int:
        """Close the connections at both ends; return their number."""
        chosen = [pair for pair in self._pairs if pair.websocket or not websockets_only]
        for pair in chosen:
            for writer in (pair.client, pair.server):
                writer.transport.abort()
        return len(chosen)

    def freeze(self) -> None:
        """Forward no data in either direction; new connections are still accepted."""
        self._flowing.clear()

    def unfreeze(self) -> None:
        self._flowing.set()

    def half_close(self, *, websockets: bool = True) -> int:
        """Close the clients' ends of WebSockets, or of all others; the server's ends stay open.

        Data that is being delayed arrives there nevertheless.
        """
        chosen = [p for p in self._pairs if p.websocket is websockets and not p.half_closed]
        for pair in chosen:
            pair.half_closed = True
            pair.client.transport.abort()
        return len(chosen)

    def close_half_closed(self) -> int:
        """Close the server's ends that `half_close` left open."""
        chosen = [pair for pair in self._pairs if pair.half_closed]
        for pair in chosen:
            pair.server.transport.abort()
            self._pairs.discard(pair)
        return len(chosen)

    async def close(self) -> None:
        self.unfreeze()
        self.close_half_closed()
        await self.refuse()
        while self._tasks:
            self.cut()
            await asyncio.wait(self._tasks, timeout=0.1)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError):
            await self._relay(reader, writer)
        writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refusals = self._refusals
        await self._flowing.wait()
        if self._disconnected:
            return
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        if self._refusals > refusals:
            to_server.transport.abort()
            return
        pair = _Pair(writer, to_server)
        self._pairs.add(pair)
        answers = asyncio.ensure_future(self._pump(from_server, writer, pair))
        try:
            await self._pump(reader, to_server, pair, upwards=True)
            await answers
        finally:
            answers.cancel()
            if not pair.half_closed:
                self._pairs.discard(pair)
                to_server.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: _Pair,
        *,
        upwards: bool = False,
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = await reader.read(65536)
                await self._flowing.wait()
                if upwards:
                    await asyncio.sleep(self.delay)
                if not data or (upwards and self.deny and f" {self.deny} ".encode() in data):
                    break
                if data.startswith(b"GET /ws"):
                    pair.websocket = True
                    self.websockets += 1
                writer.write(data)
                await writer.drain()
        if not pair.half_closed:
            writer.transport.abort()
