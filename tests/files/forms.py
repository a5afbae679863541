"""Bodies of uploads, also for programs of tests: it imports little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfydeploy_jupyter.files.uploads import UploadTarget

if TYPE_CHECKING:
    from comfydeploy_jupyter.comfyui.folders import Folders
    from comfydeploy_jupyter.files.uploads import StoredFile, Uploads

BOUNDARY = "----WebKitFormBoundary7MA4YWxk"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    lines = [f"--{BOUNDARY}", f"Content-Disposition: form-data; {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content + b"\r\n"


def file_part(name: str, content: bytes, *headers: str) -> bytes:
    return part(f'name="file"; filename="{name}"', content, *headers)


def field(name: str, value: str) -> bytes:
    return part(f'name="{name}"', value.encode())


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def send(
    uploads: Uploads,
    folders: Folders,
    data: bytes,
    *,
    chunk: int = 65536,
    content_type: str = CONTENT_TYPE,
    length: int | None = None,
) -> list[StoredFile]:
    upload = uploads.receive(UploadTarget(folders), content_type, length)
    for start in range(0, len(data), chunk):
        await upload.write(data[start : start + chunk])
    return await upload.finish()
