"""Servers for transfers: a real S3 server, and a service in whose responses tests can set errors.

The service returns presigned addresses of the S3 server like ComfyDeploy, accepts callbacks, sends
files with ranges, and stores files itself if a test has to watch or delay that.
"""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import urllib.request
from collections import defaultdict, deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aiohttp import web
from botocore.config import Config

from tests.helpers.comfyui import free_port
from tests.helpers.servers import AppServer
from tests.helpers.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "outputs"
MIB = 1024 * 1024


class S3Server:
    """moto's S3 server in a separate process; with ``url``, one that runs already."""

    def __init__(self, url: str | None = None) -> None:
        self.url = url or f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        if url is None:
            port = self.url.rsplit(":", 1)[1]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        until(self._answers, what="moto's server does not answer")
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(signature_version="s3v4"),
        )
        self.client.create_bucket(Bucket=BUCKET)

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/moto-api/", timeout=5):
            return True
        return False

    def presigned(self, operation: str, key: str, **params: Any) -> str:
        return self.client.generate_presigned_url(
            operation, Params={"Bucket": BUCKET, "Key": key, **params}, ExpiresIn=600
        )

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def head(self, key: str) -> dict[str, Any]:
        return self.client.head_object(Bucket=BUCKET, Key=key)

    def clear(self) -> None:
        for entry in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
            self.client.delete_object(Bucket=BUCKET, Key=entry["Key"])

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)


class Service(AppServer):
    """An HTTP service.

    `replacements` has the next responses by the first part of a route. A number is a status;
    ``garbage`` is an HTML page, ``half`` an incomplete response, ``never`` none, and ``hang up`` a
    closed connection; a tuple is a status and headers; None is the normal response. A header is
    removed if it is None in `file_headers`. The connection breaks after `break_after` bytes.
    """

    def __init__(self, s3: S3Server | None = None) -> None:
        self.s3 = s3
        self.replacements: dict[str, deque[Any]] = defaultdict(deque)
        self.requests: list[tuple[str, dict[str, str], dict[str, str], Any]] = []
        self.callbacks: list[tuple[str | None, dict[str, Any]]] = []
        self.files: dict[str, bytes] = {}
        self.file_headers: dict[str, dict[str, str | None]] = defaultdict(dict)
        self.sent: dict[str, list[tuple[int, int, dict[str, str]]]] = defaultdict(list)
        self.break_after: int | None = None
        self.stored: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.store_delay = 0.0  # seconds before each chunk of 64 KiB is read
        self.to_store = False  # return addresses of its own store instead of S3
        self.include_acl = False
        self.putting = 0
        self.most_putting = 0
        self.pages: dict[str, Any] = {}
        self.start()

    def requests_to(self, route: str) -> list[tuple[dict[str, str], dict[str, str], Any]]:
        return [request[1:] for request in self.requests if request[0] == route]

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * MIB)
        app.router.add_get("/upload", self._presign)
        app.router.add_get("/upload-file", self._presign_file)
        app.router.add_post("/status", self._status)
        app.router.add_get("/files/{name:.*}", self._file)
        app.router.add_put("/store/{name:.*}", self._store)
        app.router.add_post("/api/volume/file/{step}", self._volume)
        app.router.add_get("/{path:.*}", self._page)
        return app

    async def _replacement(self, request: web.Request, route: str) -> web.StreamResponse | None:
        what = self.replacements[route].popleft() if self.replacements[route] else None
        if what is None:
            return None
        if what == "garbage":
            return web.Response(text="<html>It works!</html>", content_type="text/html")
        if what == "half":
            answer = web.StreamResponse(headers={"Content-Length": "1000"})
            await answer.prepare(request)
            await answer.write(b'{"url": "http')
            request.transport.abort()
            return answer
        if what == "never":
            await asyncio.sleep(60)
        if what == "hang up":
            request.transport.abort()
            return web.Response()
        status, headers = what if isinstance(what, tuple) else (what, {})
        return web.Response(status=status, headers=headers, text="no")

    async def _note(self, request: web.Request, route: str) -> Any:
        body = await request.json() if request.can_read_body else None
        self.requests.append((route, dict(request.headers), dict(request.query), body))
        return body

    async def _presign(self, request: web.Request) -> web.StreamResponse:
        await self._note(request, "upload")
        if (replacement := await self._replacement(request, "upload")) is not None:
            return replacement
        key = f"{request.query['run_id']}/{request.query['file_name']}"
        url = self._address(request, key)
        return web.json_response(
            {
                "url": url,
                "download_url": f"https://cdn.example/{key}",
                "include_acl": self.include_acl,
                "is_public": True,
            }
        )

    def _address(self, request: web.Request, key: str) -> str:
        if self.to_store:
            return f"{self.url}/store/{key}"
        return self.s3.presigned("put_object", key, ContentType=request.query["type"])

    async def _presign_file(self, request: web.Request) -> web.StreamResponse:
        await self._note(request, "upload-file")
        if (replacement := await self._replacement(request, "upload-file")) is not None:
            return replacement
        url = self._address(request, "file")
        return web.json_response(
            {"upload_url": url, "download_url": "https://cdn.example/file", "include_acl": False}
        )

    async def _status(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if (replacement := await self._replacement(request, "status")) is not None:
            return replacement
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.callbacks.append((token, body))
        return web.json_response({})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if (replacement := await self._replacement(request, "files")) is not None:
            return replacement
        content = self.files[name]
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        start = 0
        wanted = request.headers.get("Range")
        if wanted and request.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        headers = {"ETag": etag, "Content-Length": str(len(content) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        headers |= self.file_headers[name]
        answer = web.StreamResponse(
            status=206 if start else 200,
            headers={name: value for name, value in headers.items() if value is not None},
        )
        if start >= len(content) and start:
            answer = web.Response(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
            await answer.prepare(request)
            return answer
        await answer.prepare(request)
        if request.method == "HEAD":
            return answer
        end = len(content) if self.break_after is None else start + self.break_after
        position = start
        while position < min(end, len(content)):
            chunk = content[position : min(position + 65536, end)]
            if self.store_delay:
                await asyncio.sleep(self.store_delay)
            try:
                await answer.write(chunk)
            except ConnectionResetError:  # the downloading process was killed
                return answer
            position += len(chunk)
        self.sent[name].append((answer.status, position - start, dict(request.headers)))
        if position < len(content):
            request.transport.close()
        return answer

    async def _store(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.puts.append(name)
        self.putting += 1
        self.most_putting = max(self.most_putting, self.putting)
        try:
            assert request.content_length is not None, "no Content-Length"
            if (replacement := await self._replacement(request, "store")) is not None:
                return replacement
            body = bytearray()
            async for chunk in request.content.iter_chunked(65536):
                body += chunk
                if self.store_delay:
                    await asyncio.sleep(self.store_delay)
            self.stored[name] = bytes(body)
            return web.Response(headers={"ETag": '"stored"'})
        finally:
            self.putting -= 1

    async def _volume(self, request: web.Request) -> web.StreamResponse:
        step = request.match_info["step"]
        body = await self._note(request, step)
        if (replacement := await self._replacement(request, step)) is not None:
            return replacement
        answer = await asyncio.to_thread(self._volume_step, step, body)
        return web.json_response(answer)

    def _volume_step(self, step: str, body: dict[str, Any]) -> dict[str, Any]:
        s3 = self.s3.client
        if step == "generate-upload-url":
            url = self.s3.presigned("put_object", body["filename"])
            return {"uploadUrl": url, "objectKey": body["filename"]}
        if step == "initiate-multipart-upload":
            key = body["filename"]
            made = s3.create_multipart_upload(Bucket=BUCKET, Key=key)
            return {"uploadId": made["UploadId"], "key": key, "partSize": 5 * MIB}
        upload = {"Bucket": BUCKET, "Key": body["key"], "UploadId": body["uploadId"]}
        if step == "generate-part-upload-url":
            part = {"UploadId": body["uploadId"], "PartNumber": body["partNumber"]}
            return {"uploadUrl": self.s3.presigned("upload_part", body["key"], **part)}
        if step == "complete-multipart-upload":
            parts = [{"PartNumber": p["partNumber"], "ETag": p["eTag"]} for p in body["parts"]]
            s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
            return {"status": "ok", "key": body["key"]}
        s3.abort_multipart_upload(**upload)
        return {"status": "aborted"}

    async def _page(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        await self._note(request, path)
        page = self.pages.get(path, 404)
        if isinstance(page, int):
            return web.Response(status=page)
        if isinstance(page, tuple):
            return web.Response(status=page[0], headers=page[1])
        return web.json_response(page)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """The S3 server that all tests share."""
    server = S3Server()
    yield server
    server.close()


@contextmanager
def running(s3: S3Server | None = None) -> Iterator[Service]:
    service = Service(s3)
    try:
        yield service
    finally:
        service.close()


@pytest.fixture
def service(s3: S3Server) -> Iterator[Service]:
    """A service in front of the S3 server."""
    s3.clear()
    with running(s3) as made:
        yield made


@pytest.fixture
def bare_service() -> Iterator[Service]:
    with running() as made:
        yield made
