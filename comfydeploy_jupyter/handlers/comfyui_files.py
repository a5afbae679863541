"""Response headers with which files of ComfyUI cannot act as pages of Jupyter.

The files have the same origin as Jupyter's pages.
"""

from __future__ import annotations

import re
from posixpath import normpath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    import aiohttp

# Types that browsers show or play without running scripts. Any kind of XML may contain scripts.
PASSIVE = re.compile(
    r"(image|audio|video|font|model)/[a-z0-9._-]+|text/(plain|css|csv|event-stream)"
    r"|application/(([a-z0-9._-]+\+)?json|octet-stream|wasm|zip|x-safetensors)"
)
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_FILENAME = re.compile(r'filename="?([^";]+)')
# All types that browsers treat as scripts (WHATWG MIME Sniffing, 4.6).
SCRIPT_TYPES = re.compile(
    r"(text|application)/(x-)?(java|ecma)script|text/(javascript1\.[0-5]|jscript|livescript)"
)
# Paths of files of users: everybody who may use ComfyUI can store files there.
USER_FILES = re.compile(
    r"(/api)?/(userdata|view|viewvideo|internal|experiment|input|output|temp)(/|$)|/api/assets(/|$)"
)


def file_headers(path: str, answer: aiohttp.ClientResponse, policy: str) -> dict[str, str]:
    """Return the headers with which a file of ComfyUI cannot act as a page of Jupyter.

    Parameters
    ----------
    path : str
        Its path below ``comfyui``.
    answer : aiohttp.ClientResponse
        ComfyUI's response.
    policy : str
        Jupyter's own ``Content-Security-Policy``.

    Returns
    -------
    dict
        A ``Content-Security-Policy`` that allows no scripts and gives the file an opaque origin.
        Also a ``Content-Disposition`` with which browsers save the file, unless it is of a type
        that they only show. Scripts among the files of users, and files without a type or with
        several, get the type of arbitrary bytes; with ``X-Content-Type-Options``, which all
        responses of Jupyter have, browsers do not guess another type.
    """
    headers = {"Content-Security-Policy": f"sandbox; {policy}"}
    if answer.status in {204, 304}:
        return headers  # the browser has the rest
    types = answer.headers.getall("Content-Type", [])
    kind = types[0].partition(";")[0].strip().lower() if len(types) == 1 else ""
    is_script = SCRIPT_TYPES.fullmatch(kind) is not None
    if not _MEDIA_TYPE.fullmatch(kind) or (is_script and USER_FILES.match(normpath(unquote(path)))):
        headers["Content-Type"] = kind = "application/octet-stream"
    if not (PASSIVE.fullmatch(kind) or is_script):
        name = _FILENAME.search(answer.headers.get("Content-Disposition", ""))
        named = f"; filename*=UTF-8''{quote(name[1], errors='surrogateescape')}" if name else ""
        headers["Content-Disposition"] = f"attachment{named}"
    return headers
