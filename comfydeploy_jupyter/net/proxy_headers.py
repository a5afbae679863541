"""Which headers and query parameters a proxied request and its answer may carry.

All proxies of this package take these lists, so that what is not known is never passed on: not what
identifies a user to Jupyter or to a proxy in front of it, and not what another server could use to
act in Jupyter's name or to direct a proxy in front of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

REQUEST = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Cache-Control",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Type",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Range",
    "User-Agent",
)
RESPONSE = (
    "Accept-Ranges",
    "Age",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "ETag",
    "Expires",
    "Last-Modified",
    "Retry-After",
    "Vary",
)
# Of one connection, not of the message (RFC 9110, 7.6.1).
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
CREDENTIALS = frozenset({"token", "_xsrf"})  # query parameters by which Jupyter knows its users

# Directives that a response for one user may have for shared caches.
_CACHING = re.compile(
    r"(no-store|no-cache|no-transform|must-revalidate|immutable"
    r"|(max-age|stale-while-revalidate|stale-if-error)=\d+)"
)
# Parts of a path that browsers treat as ``..``; they also treat a backslash as a slash.
_UPWARDS = re.compile(r"(?:\.|%2e){2}", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x20\x7f]")


def request_headers(given: Mapping[str, str], more: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the headers of a request that are passed on.

    Parameters
    ----------
    given : mapping
        The headers of the request; names are compared without regard to case.
    more : tuple of str
        Names beside `REQUEST` that this proxy passes on.
    """
    return {name: given[name] for name in (*REQUEST, *more) if name in given}


def response_headers(given: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of an answer that are passed back.

    ``Cache-Control`` always says ``private``: a cache that several users share must not hand out
    what this user alone may have.
    """
    found = {name: given[name] for name in RESPONSE if name in given}
    found["Cache-Control"] = _private(found.get("Cache-Control", ""))
    return found


def end_to_end(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the headers of a message that are not only for one connection.

    For a proxy that passes all other headers on.

    Parameters
    ----------
    headers : iterable of tuple of str
        Names and values; a name may come more than once.
    """
    given = list(headers)
    named = {
        name.strip().lower()
        for header, value in given
        if header.lower() == "connection"
        for name in value.split(",")
    }
    for name, value in given:
        if name.lower() not in HOP_BY_HOP and name.lower() not in named:
            yield name, value


def leads_upwards(address: str) -> bool:
    """Return whether a path has a part that a browser takes for ``..``; its query does not count.

    Control characters do not count either: no header has them when it is sent.
    """
    path = re.split(r"[?#]", _CONTROLS.sub("", address), maxsplit=1)[0]
    return any(_UPWARDS.fullmatch(part) for part in re.split(r"[/\\]", path))


def without_credentials(query: str) -> str:
    """Return a query without the parameters in `CREDENTIALS`, however they are spelled.

    What remains is passed on byte for byte.
    """
    return "&".join(
        part
        for part in query.split("&")
        if unquote_plus(part.partition("=")[0]).strip().lower() not in CREDENTIALS
    )


def _private(caching: str) -> str:
    directives = (directive.strip().lower() for directive in caching.split(","))
    return ", ".join(["private", *(one for one in directives if _CACHING.fullmatch(one))])
