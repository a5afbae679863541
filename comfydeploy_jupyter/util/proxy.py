"""Forward ComfyDeploy's web site under Jupyter's own address."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import aiohttp
from yarl import URL

from ..errors import CloudError, InvalidRequestError
from . import proxy_headers
from .secrets import clean_url
from .sessions import new_session
from .tasks import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

DEFAULT_SITE = "https://www.comfydeploy.com"
SILENCE = 300.0  # seconds that a response may pause after it has begun

_PATH_SAFE = "/%:@!$&'()*+,;=-._~"
_QUERY_SAFE = f"{_PATH_SAFE}?"


class Site:
    """Forwards requests to the web site and streams its responses back."""

    def __init__(self, url: str = DEFAULT_SITE, *, answer_within: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.answer_within = answer_within
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<Site at {clean_url(self.url)}>"

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def address(self, tail: str, query: str = "") -> URL:
        """Return the address of a page of the site."""
        _check_tail(tail)
        base = str(self._base().with_query(None).with_fragment(None)).rstrip("/")
        kept = proxy_headers.without_credentials(query)
        address = f"{base}/{quote(tail, safe=_PATH_SAFE, encoding='latin-1')}"
        if kept:
            address += f"?{quote(kept, safe=_QUERY_SAFE, encoding='latin-1')}"
        return URL(address, encoded=True)

    async def ask(
        self,
        method: str,
        address: URL,
        headers: Mapping[str, str],
        *,
        key: str | None = None,
        body: AsyncIterator[bytes] | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request; return the response before its body is read. The caller closes it."""
        sent = proxy_headers.request_headers(headers)
        sent.setdefault("Accept-Encoding", "identity")
        if body is None:
            sent.pop("Content-Length", None)
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        if self._session is None:
            self._session = new_session(
                silence=SILENCE,
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
            )
        complete = asyncio.Event()
        data = None if body is None else _to_the_end(body, complete)
        if body is None:
            complete.set()
        asking = asyncio.ensure_future(
            self._session.request(method, address, headers=sent, data=data, allow_redirects=False)
        )
        sending = asyncio.ensure_future(complete.wait())
        try:
            await asyncio.wait({asking, sending}, return_when=asyncio.FIRST_COMPLETED)
            return await wait_for(asking, self.answer_within)
        except asyncio.TimeoutError:
            raise CloudError(f"{clean_url(self.url)} did not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Not chained: aiohttp's errors contain the request's headers, and so the key.
            reason = getattr(getattr(error, "os_error", None), "strerror", None)
            raise CloudError(
                f"{clean_url(self.url)} cannot be reached: {reason or type(error).__name__}"
            ) from None
        finally:
            sending.cancel()
            asking.cancel()

    async def pieces(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield the body of a response as it arrives."""
        try:
            async for piece in response.content.iter_any():
                yield piece
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise CloudError(
                f"{clean_url(self.url)} ended its response too early: {type(error).__name__}"
            ) from None

    def returned_headers(self, response: aiohttp.ClientResponse) -> dict[str, str]:
        """Return the headers of a response that are forwarded, without ``Location``."""
        return proxy_headers.response_headers(response.headers)

    def location(self, response: aiohttp.ClientResponse, here: str) -> str | None:
        """Return the target of a redirect, as an address below this package's route."""
        found = response.headers.get("Location")
        if found is None:
            return None
        try:
            target = response.url.join(URL(found))
        except ValueError:
            return None
        if target.scheme not in ("http", "https") or not target.host:
            return None
        base = self._base()
        path = base.raw_path.rstrip("/")
        if target.origin() != base.origin() or not f"{target.raw_path}/".startswith(f"{path}/"):
            return str(target)
        rest = target.raw_path.removeprefix(path).lstrip("/")
        query = f"?{target.raw_query_string}" if target.raw_query_string else ""
        fragment = f"#{target.raw_fragment}" if target.raw_fragment else ""
        return f"{here}/{rest}{query}{fragment}"

    def _base(self) -> URL:
        try:
            base = URL(self.url)
        except ValueError:
            base = URL()
        if base.scheme not in ("http", "https") or not base.host:
            raise CloudError("comfydeploy_url is not an http:// or https:// address")
        return base


async def _to_the_end(body: AsyncIterator[bytes], complete: asyncio.Event) -> AsyncIterator[bytes]:
    async for piece in body:
        yield piece
    complete.set()


def _check_tail(tail: str) -> None:
    """Raise if a program could read a path as an address on another host or outside of the site.

    The path is checked unchanged, and after one, two and three rounds of decoding, since a server
    or proxy may decode it more than once.
    """
    seen = tail
    for _ in range(4):
        if seen.startswith("/"):
            problem = "must not begin with a slash"
        elif "\\" in seen:
            problem = "must not have a backslash"
        elif any(part in (".", "..") for part in re.split(r"[/;?#]", seen)):
            problem = "must not have a part that is . or .."
        elif any(character < " " or character == "\x7f" for character in seen):
            problem = "must not have control characters"
        else:
            seen = unquote(seen, encoding="latin-1")
            continue
        raise InvalidRequestError.of_field("tail", problem)
