"""A TCP relay in front of a server, for the faults that networks have."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass


@dataclass(eq=False)
class _Pair:
    """One connection through the relay: the client's end and the server's end."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    websocket: bool = False
    orphaned: bool = False


class Relay:
    """Passes bytes between clients and one server, until it is told to do otherwise.

    Parameters
    ----------
    target : int
        Port of the server, on 127.0.0.1.
    port : int
        Port to listen at; 0 for a free one, which is kept.

    Attributes
    ----------
    delay : float
        Seconds for which what clients send is held back.
    deny : str or None
        A path; the connection breaks over each request for it.
    websockets : int
        How many WebSockets there have been.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.port = port
        self.delay = 0.0
        self.deny: str | None = None
        self.websockets = 0
        self._target = target
        self._pairs: set[_Pair] = set()
        self._refusals = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Take connections, from now on or again."""
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Cut everything and take no connections: nothing listens here any more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._refusals += 1
        self.cut()

    def cut(self, *, websockets_only: bool = False) -> int:
        """Break the connections at both ends; return how many there were."""
        chosen = [pair for pair in self._pairs if pair.websocket or not websockets_only]
        for pair in chosen:
            for writer in (pair.client, pair.server):
                writer.transport.abort()
        return len(chosen)

    def freeze(self) -> None:
        """Pass nothing on in either direction; connections can still be made."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on what was held back, and go on."""
        self._flowing.set()

    def orphan(self) -> int:
        """Break the clients' ends of WebSockets, while the server goes on to see its ends."""
        chosen = [pair for pair in self._pairs if pair.websocket and not pair.orphaned]
        for pair in chosen:
            pair.orphaned = True
            pair.client.transport.abort()
        return len(chosen)

    def bury(self) -> int:
        """Break the ends that `orphan` left at the server."""
        chosen = [pair for pair in self._pairs if pair.orphaned]
        for pair in chosen:
            pair.server.transport.abort()
            self._pairs.discard(pair)
        return len(chosen)

    async def close(self) -> None:
        self.thaw()
        self.bury()
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
            if not pair.orphaned:
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
        if not pair.orphaned:
            writer.transport.abort()
