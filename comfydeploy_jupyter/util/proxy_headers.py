"""The headers and query parameters that proxies forward with requests and responses.

All proxies of this package use these lists of allowed headers. So unknown headers are never
forwarded, among them those that identify a user to Jupyter or to a proxy in front of it, and those
with which another server could act as Jupyter or control a proxy in front of it.
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
# Headers of one connection, not of the message (RFC 9110, 7.6.1).
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
CREDENTIALS = frozenset({"token", "_xsrf"})  # query parameters that authenticate users of Jupyter

# Directives for caches that are kept in a response for one user.
_CACHING = re.compile(
    r"(no-store|no-cache|no-transform|must-revalidate|immutable"
    r"|(max-age|stale-while-revalidate|stale-if-error)=\d+)"
)
# The parts of a path that browsers treat as ``..``; they also treat a backslash as a slash.
_UPWARDS = re.compile(r"(?:\.|%2e){2}", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x20\x7f]")


def request_headers(given: Mapping[str, str], more: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the headers of a request that are forwarded.

    Parameters
    ----------
    given : mapping
        The headers of the request; the case of names is ignored.
    more : tuple of str
        Further names that this proxy forwards, in addition to `REQUEST`.
    """
    return {name: given[name] for name in (*REQUEST, *more) if name in given}


def response_headers(given: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a response that are forwarded.

    ``Cache-Control`` always contains ``private``: a cache of several users must not send them the
    data of this user.
    """
    found = {name: given[name] for name in RESPONSE if name in given}
    found["Cache-Control"] = _private(found.get("Cache-Control", ""))
    return found


def end_to_end(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the headers of a message that are not only for one connection.

    This is for a proxy that forwards all other headers.

    Parameters
    ----------
    headers : iterable of tuple of str
        Names and values; a name may occur more than once.
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
    """Return whether a browser treats a part of a path as ``..``; the query is ignored.

    Control characters are ignored too, because they are removed before a header is sent.
    """
    path = re.split(r"[?#]", _CONTROLS.sub("", address), maxsplit=1)[0]
    return any(_UPWARDS.fullmatch(part) for part in re.split(r"[/\\]", path))


def without_credentials(query: str) -> str:
    """Return a query without the parameters in `CREDENTIALS`, in any encoding of their names.

    The other bytes are unchanged.
    """
    return "&".join(
        part
        for part in query.split("&")
        if unquote_plus(part.partition("=")[0]).strip().lower() not in CREDENTIALS
    )


def _private(caching: str) -> str:
    directives = (directive.strip().lower() for directive in caching.split(","))
    return ", ".join(["private", *(one for one in directives if _CACHING.fullmatch(one))])
