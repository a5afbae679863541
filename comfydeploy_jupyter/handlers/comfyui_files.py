"""Headers that keep a file of ComfyUI from acting as a page of Jupyter, whose origin it has."""

from __future__ import annotations

import re
from posixpath import normpath
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    import aiohttp

# Types that a browser shows or plays and runs no script of. XML of any kind may hold scripts.
PASSIVE = re.compile(
    r"(image|audio|video|font|model)/[a-z0-9._-]+|text/(plain|css|csv|event-stream)"
    r"|application/(([a-z0-9._-]+\+)?json|octet-stream|wasm|zip|x-safetensors)"
)
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_FILENAME = re.compile(r'filename="?([^";]+)')
# Every type that a browser takes for a script (WHATWG MIME Sniffing, 4.6).
SCRIPT_TYPES = re.compile(
    r"(text|application)/(x-)?(java|ecma)script|text/(javascript1\.[0-5]|jscript|livescript)"
)
# Paths below which are files of users: whoever may use ComfyUI can put them there.
USER_FILES = re.compile(
    r"(/api)?/(userdata|view|viewvideo|internal|experiment|input|output|temp)(/|$)|/api/assets(/|$)"
)


def file_headers(path: str, answer: aiohttp.ClientResponse, policy: str) -> dict[str, str]:
    """Return the headers that keep a file of ComfyUI from acting as a page of Jupyter.

    Parameters
    ----------
    path : str
        Its path below ``comfyui``.
    answer : aiohttp.ClientResponse
        ComfyUI's answer.
    policy : str
        Jupyter's own ``Content-Security-Policy``.

    Returns
    -------
    dict
        A ``Content-Security-Policy`` under which no script runs, and which gives the file no
        origin. Unless the browser can only show the file, also a ``Content-Disposition`` with
        which the browser saves it. A script among the files of users, and a file with no type or
        several, gets the type of mere bytes; ``X-Content-Type-Options``, which all answers of
        Jupyter have, keeps browsers from guessing another one.
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
