"""The web site of ComfyDeploy, passed on under Jupyter's own address."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import aiohttp
from yarl import URL

from ..errors import CloudError, InvalidRequestError
from ..net import proxy_headers
from ..net.sessions import new_session
from ..net.tasks import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

DEFAULT_SITE = "https://www.comfydeploy.com"
SILENCE = 300.0  # seconds that an answer which has begun may pause

_PATH_SAFE = "/%:@!$&'()*+,;=-._~"
_QUERY_SAFE = f"{_PATH_SAFE}?"


class Site:
    """Passes requests on to the web site, and its answers back, piece by piece.

    Parameters
    ----------
    url : str
        Address of the site; nothing outside it can be asked for.
    answer_within : float
        Seconds that it has to begin an answer, once it has the whole request.
    """

    def __init__(self, url: str = DEFAULT_SITE, *, answer_within: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.answer_within = answer_within
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<Site at {self.url}>"

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def address(self, tail: str, query: str = "") -> URL:
        """Return the address of a page.

        Parameters
        ----------
        tail : str
            Its path below the site, as it stands in the request: percent-encoded.
        query : str
            The query, likewise. Jupyter's ``token`` and ``_xsrf`` are left out.

        Raises
        ------
        InvalidRequestError
            If the path could lead elsewhere in the eyes of a server or a browser.
        CloudError
            If the site's own address is none.
        """
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
        """Send a request and return the answer, its body not yet read; the caller closes it.

        Parameters
        ----------
        method : str
            HTTP method.
        address : yarl.URL
            What `address` returned.
        headers : Mapping
            The headers of the request; those that concern the site are sent.
        key : str, optional
            Sent as bearer token.
        body : AsyncIterator of bytes, optional
            The pieces of the body, in order; the next is taken when there is room for it.

        Raises
        ------
        CloudError
            If the site cannot be reached or does not begin to answer in time.
        """
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
            raise CloudError(f"{self.url} does not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Not chained: aiohttp's errors carry the request's headers, and so the key.
            reason = getattr(getattr(error, "os_error", None), "strerror", None)
            raise CloudError(
                f"{self.url} cannot be reached: {reason or type(error).__name__}"
            ) from None
        finally:
            sending.cancel()
            asking.cancel()

    async def pieces(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield the body of an answer as it arrives.

        Raises
        ------
        CloudError
            If it breaks off.
        """
        try:
            async for piece in response.content.iter_any():
                yield piece
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise CloudError(f"{self.url} broke off its answer: {type(error).__name__}") from None

    def returned_headers(self, response: aiohttp.ClientResponse) -> dict[str, str]:
        """Return the headers of an answer that are passed back, all but ``Location``."""
        return proxy_headers.response_headers(response.headers)

    def location(self, response: aiohttp.ClientResponse, here: str) -> str | None:
        """Return where a redirect leads, as seen through us.

        Parameters
        ----------
        response : aiohttp.ClientResponse
            The answer.
        here : str
            The path under which the site is passed on, without a slash at its end.

        Returns
        -------
        str or None
            A path below ``here`` for a page of the site, else the full address. None where there
            is no redirect, or it does not lead to a web page.
        """
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
    """Refuse a path that somebody may read as one to another host or out of the site.

    It is looked at as it is, and as it is after one, two and three rounds of decoding: what a
    careless server or proxy may make of it.
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
