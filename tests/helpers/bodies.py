"""What tests send: forms, graphs that make pictures, and requests as bytes."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any


def form(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, dict[str, str]]:
    """Return a multipart body of (field, filename, content) and its headers."""
    boundary = uuid.uuid4().hex
    body = b""
    for name, filename, content in parts:
        extra = f'; filename="{filename}"' if filename is not None else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def picture(prefix: str | None = None, **inputs: Any) -> dict[str, Any]:
    """Return a graph that makes a picture, and saves it, or shows it if there is no prefix."""
    size = {"width": 32, "height": 32, "batch_size": 1, "color": 255}
    shown: dict[str, Any] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    saved = {"class_type": "SaveImage", "inputs": {**shown["inputs"], "filename_prefix": prefix}}
    return {
        "1": {"class_type": "EmptyImage", "inputs": {**size, **inputs}},
        "2": shown if prefix is None else saved,
    }


def new_picture(prefix: str | None = None, **inputs: Any) -> dict[str, Any]:
    """Return such a graph that is not in ComfyUI's cache."""
    return picture(prefix, color=uuid.uuid4().int % 0xFFFFFF, **inputs)


class Wire:
    """Sends requests to Jupyter as given bytes; paths are below `root`."""

    def __init__(self, port: int, root: str, token: str) -> None:
        self.port = port
        self.root = root
        self.token = token

    def text(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> bytes:
        """Return a request, which ends its connection by default."""
        sent = {"Host": "localhost", "Authorization": f"token {self.token}", "Connection": "close"}
        if body:
            sent["Content-Length"] = str(len(body))
        sent.update(headers or {})
        if "Transfer-Encoding" in sent:
            sent.pop("Content-Length", None)
        lines = [f"{method} {self.root}{path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in sent.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    async def send(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request and return the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(self.text(method, path, headers, body))
        await writer.drain()
        return reader, writer

    async def head(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
        """Return status and headers, names in small letters."""
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.strip().split("\r\n")
        headers = [line.split(": ", 1) for line in lines]
        return int(first.split()[1]), {name.lower(): value for name, value in headers}

    async def call(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the reply; status 0 if there is none."""
        reader, writer = await self.send(method, path, headers, body)
        try:
            status, found = await self.head(reader)
            content = await reader.read()
        except asyncio.IncompleteReadError:
            return 0, {}, b""
        finally:
            writer.close()
        if found.get("transfer-encoding") == "chunked":
            content = _whole(content)
        return status, found, content


def _whole(chunked: bytes) -> bytes:
    found = b""
    while True:
        size, _, chunked = chunked.partition(b"\r\n")
        if int(size, 16) == 0:
            return found
        found, chunked = found + chunked[: int(size, 16)], chunked[int(size, 16) + 2 :]
