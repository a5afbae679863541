"""The ComfyDeploy service: which addresses may receive a key, the keys, and its API."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

import aiohttp
from yarl import URL

from ..errors import CloudError, ForbiddenAPIURLError, InvalidRequestError, NoAPIKeyError
from ..util import http, proxy, worker
from ..util.http import Pooled
from ..util.jsons import dumps
from ..util.secrets import clean_url, is_key
from ..util.system import replace_file
from ..util.times import Backoff, retry_after, timestamp_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d+))?)?"
    r"\s{0,9}(?:([+-]\d\d)(?::?(\d\d))?)?\s{0,9}Z?",
    re.IGNORECASE,
)


def iso_utc(value: object) -> str | None:
    """Return a date of the service as ISO 8601 in UTC, with milliseconds."""
    found = _DATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    day, clock, fraction, hours, minutes = found.groups("")
    text = f"{day}T{clock or '00:00'}{hours or '+00'}:{minutes or '00'}"
    try:
        date = datetime.fromisoformat(text)
        return timestamp_of(date + timedelta(milliseconds=int(f"{fraction}000"[:3])))
    except (ValueError, OverflowError):
        return None


class Account(NamedTuple):
    """A key and its owner; the repr does not contain the key."""

    api_key: str
    name: str  # the owner's name in the service; may be empty

    def __repr__(self) -> str:
        return f"Account(name={self.name!r})"


class Credentials:
    """A JSON file that only its owner can read (mode 0600).

    All methods access the disk: call them in a thread.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Account | None:
        """Return the account that signed in; None if there is none or the file cannot be read."""
        try:
            found = json.loads(self._path.read_bytes())
            key, name = str(found["api_key"]).strip(), str(found["name"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not is_key(key):
            log.warning("%s has no valid key: it contains characters that no key has", self._path)
            return None
        return Account(key, name)

    def forget(self) -> None:
        """Delete the stored credentials."""
        self._path.unlink(missing_ok=True)

    def keep(self, account: Account) -> None:
        """Store the account that signed in, atomically replacing the file."""
        replace_file(self._path, json.dumps(account._asdict()).encode())


class CloudAccess:
    """The allow list and the keys for the ComfyDeploy service.

    Paths below an allowed address are allowed, too. The key of a sign-in comes before the
    configured one.
    """

    def __init__(self, allowed_api_urls: tuple[str, ...], api_key: str | None) -> None:
        self._allowed = tuple(URL(url) for url in allowed_api_urls)
        self._api_key = api_key
        self.signed_in_key: str | None = None

    def check_url(self, url: str, *, field: str) -> str:
        """Return ``url``, normalised; ForbiddenAPIURLError if it may not receive a key."""
        try:
            asked = URL(url)
        except ValueError:
            asked = URL()
        if any(_is_below(asked, allowed) for allowed in self._allowed):
            return str(asked)
        text = f"{_shown(asked)!r} is not on the list allowed_api_urls"
        allowed_api_urls = [*map(_shown, self._allowed)]
        raise ForbiddenAPIURLError.of_field(field, text, allowed_api_urls=allowed_api_urls)

    def key(self, given: str | None) -> str:
        """Return the key to use: the one in the request, else from the sign-in, else configured."""
        key = (given or self.signed_in_key or self._api_key or "").strip()
        if not key:
            raise NoAPIKeyError(
                "No ComfyDeploy API key: send it as X-ComfyDeploy-Token, sign in, or configure"
                " api_key"
            )
        if not is_key(key):
            raise NoAPIKeyError(
                "The ComfyDeploy API key contains characters that are not allowed in keys"
            )
        return key

    def key_for(self, url: str) -> str | None:
        """Return the key of the sign-in, else the configured one, if an address may receive it."""
        try:
            self.check_url(url, field="url")
        except ForbiddenAPIURLError:
            return None
        return self.signed_in_key or self._api_key


def _is_below(asked: URL, allowed: URL) -> bool:
    prefix = allowed.path.rstrip("/")
    return (
        (asked.scheme, asked.host, asked.port) == (allowed.scheme, allowed.host, allowed.port)
        and asked.user is None
        and asked.password is None
        and (asked.path == prefix or asked.path.startswith(f"{prefix}/"))
        # Decoded twice, since a proxy may decode %252e%252e.
        and ".." not in unquote(asked.path).split("/")
    )


def _shown(url: URL) -> str:
    """Return an address without the parts that may be secret; it may be malformed."""
    shown = url.with_query(None).with_fragment(None)
    try:
        return str(shown.with_user(None))
    except ValueError:
        return str(shown).rpartition("@")[2]


DEFAULT_URL = "https://api.comfydeploy.com/api"
ATTEMPTS = 4
MAX_BYTES = 256 * 1024 * 1024  # bytes of a response; each version of a large workflow has megabytes
DEFAULT_SITE = "https://www.comfydeploy.com"
SILENCE_TIMEOUT = 300.0  # seconds that a response of the site may pause after it has begun
_PATH_SAFE = "/%:@!$&'()*+,;=-._~"
_QUERY_SAFE = f"{_PATH_SAFE}?"
MAX_SENTENCE = 500  # characters of the service's message that are passed on


class CloudClient(Pooled):
    """The connections to the service, and the validation of its responses."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        access: CloudAccess,
        timeout: float = 30.0,  # seconds for one call, including its repetitions
        pause: float = 0.25,  # seconds, at most, before the first repetition
    ) -> None:
        super().__init__()
        self.base_url = base_url.rstrip("/")
        self.access = access
        self._timeout = timeout
        self._backoff = Backoff(first=pause, attempts=ATTEMPTS)

    def __repr__(self) -> str:
        return f"<CloudClient of {clean_url(self.base_url)}>"

    def account(self, given_key: str | None = None, *, api_url: str | None = None) -> CloudAccount:
        """Return the service with one key; no request is sent. NoAPIKeyError if there is none.

        As in the ComfyUI node, the API is below ``/api`` of the ``api_url`` in a request.
        """
        return CloudAccount(self, self._api(api_url), self.access.key(given_key))

    async def sign_in(self, request_id: str, api_url: str | None = None) -> dict[str, str]:
        """Request ``api_key`` and ``name`` of a user who is signing in; this needs no key.

        CloudError with status 404 until the user has approved the sign-in, 410 afterwards.
        """
        url = self._api(api_url) / "platform" / "comfyui" / "auth-response"
        reply = await self.call("GET", url, key=None, params={"request_id": request_id})
        if not isinstance(reply, dict) or not is_key(reply.get("api_key")):
            raise unreadable("the sign-in")
        return {"api_key": reply["api_key"], "name": str(reply.get("name") or "")}

    def _api(self, api_url: str | None) -> URL:
        if not api_url:
            return URL(self.access.check_url(self.base_url, field="cloud_url"))
        url = URL(self.access.check_url(api_url, field="api_url"))
        path = url.path.rstrip("/")
        return url.with_path(path if path.endswith("/api") else f"{path}/api")

    async def native_run(
        self, endpoint: str, body: dict[str, Any], given_key: str | None
    ) -> dict[str, Any]:
        """Request the body of a native run from the service; ``workflow_api`` is its graph."""
        url = URL(self.access.check_url(endpoint, field="native_run_api_endpoint"))
        reply = await self.call("POST", url, key=self.access.key(given_key), body=body)
        if not isinstance(reply, dict):
            raise unreadable("the native run")
        if "workflow_api_json" in reply:
            reply["workflow_api"] = reply.pop("workflow_api_json")
        return reply

    async def call(
        self,
        method: str,
        url: URL,
        *,
        key: str | None,
        params: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        idempotent: bool | None = None,
    ) -> Any:
        """Send one request and return the JSON of its response.

        The request is repeated after status 429, since the service has not processed it, and after
        a failure to connect; an idempotent one also after a 5xx and after a broken connection. By
        default all but POST are idempotent. CloudError has the status of a 4xx, else 502.
        """
        repeatable = method != "POST" if idempotent is None else idempotent
        headers = {"Accept": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        request: dict[str, Any] = {"params": params, "headers": headers}
        if body is not None:
            headers["Content-Type"] = "application/json"
            request["data"] = await asyncio.to_thread(_encode, body)
        deadline = time.monotonic() + self._timeout
        failures = 0
        while True:
            request["timeout"] = aiohttp.ClientTimeout(
                total=deadline - time.monotonic(), sock_connect=5.0
            )
            try:
                return await self._attempt(method, url, key, request)
            except _CallError as failure:
                failures += 1
                pause = self._backoff.pause(failures, failure.retry_after)
                again = failure.undone or (repeatable and failure.passing)
                again = again and failures < self._backoff.attempts
                if not again or time.monotonic() + pause > deadline:
                    raise failure.error from None
            await asyncio.sleep(pause)

    async def _attempt(
        self, method: str, url: URL, key: str | None, request: dict[str, Any]
    ) -> Any:
        what = f"{method} {url.path}"
        try:
            async with self.session.request(
                method, url, allow_redirects=False, **request
            ) as response:
                text = await http.read_whole(response, MAX_BYTES)
        except asyncio.TimeoutError:
            problem = f"ComfyDeploy did not answer {what} in time"
            raise _CallError(CloudError(problem), passing=True) from None
        except aiohttp.ClientConnectorError as cause:
            reason = cause.os_error.strerror or type(cause.os_error).__name__
            problem = f"ComfyDeploy at {url.host} cannot be reached: {reason}"
            raise _CallError(CloudError(problem), undone=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as cause:
            # Not chained: aiohttp's errors contain the request's headers, and so the key.
            problem = f"ComfyDeploy ended its response to {what} too early: {type(cause).__name__}"
            raise _CallError(CloudError(problem), passing=True) from None
        return await _read(response, text, what, key)


class CloudAccount:
    """The service with one key; made by `CloudClient.account`."""

    def __init__(self, client: CloudClient, url: URL, key: str) -> None:
        self.url = url
        self._client = client
        self._key = key

    def __repr__(self) -> str:
        return f"<CloudAccount at {self.url}>"

    async def get(self, *path: str | int, **params: str | int | None) -> Any:
        """Return the response to a GET; parameters that are None are omitted."""
        query = {name: str(value) for name, value in params.items() if value is not None}
        return await self._call("GET", path, params=query)

    async def post(self, *path: str | int, body: dict[str, Any], idempotent: bool = False) -> Any:
        """Return the response to a POST."""
        return await self._call("POST", path, body=body, idempotent=idempotent)

    async def patch(self, *path: str | int, body: dict[str, Any]) -> Any:
        """Return the response to a PATCH."""
        return await self._call("PATCH", path, body=body)

    async def _call(self, method: str, path: tuple[str | int, ...], **request: Any) -> Any:
        parts = [str(part) for part in path]
        for part in parts:
            if part in ("", ".", ".."):
                raise InvalidRequestError(f"{part!r} is not an id", details={"value": part})
        tail = "/".join(quote(part, safe="") for part in parts)
        url = URL(f"{self.url}/{tail}", encoded=True)
        return await self._client.call(method, url, key=self._key, **request)


class _CallError(Exception):
    """One attempt failed; its attributes show whether it can be repeated."""

    def __init__(
        self,
        error: CloudError,
        *,
        undone: bool = False,
        passing: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(error.message)
        self.error, self.retry_after = error, retry_after
        self.undone, self.passing = undone, passing


def unreadable(what: str) -> CloudError:
    """Return the error for a response of an unexpected form."""
    return CloudError(f"ComfyDeploy's answer to {what} has an unexpected form")


async def _read(response: aiohttp.ClientResponse, text: bytes, what: str, key: str | None) -> Any:
    status = response.status
    try:
        reply = await worker.parse_reply(text)
    except ValueError:
        reply = None
        if status < 300:
            raise _CallError(unreadable(what)) from None
    if status < 300:
        return reply
    if status < 400:
        raise _CallError(CloudError(f"ComfyDeploy answers {what} with a redirect"))
    sentence = _sentence(reply)
    if key is not None:
        sentence = sentence.replace(key, "***")
    error = CloudError(
        f"ComfyDeploy: {sentence}" if sentence else f"ComfyDeploy answered {status} to {what}",
        details={"status": status},
    )
    if status >= 500:
        raise _CallError(error, passing=True)
    error.status = status
    if status != 429:
        raise _CallError(error)
    pause = retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
    if pause is not None:
        error.details["retry_after"] = pause
    raise _CallError(error, undone=True, retry_after=pause)


def _sentence(reply: Any) -> str:
    """Return the message in an error response, which has one of three forms.

    ``{"detail": "…"}`` from the middleware, ``{"error": "…"}`` from some routes, and
    ``{"detail": [{"loc": […], "msg": "…"}]}`` for an invalid body.
    """
    if not isinstance(reply, dict):
        return ""
    found = next((reply[key] for key in ("detail", "error", "message") if reply.get(key)), "")
    if isinstance(found, dict):
        found = found.get("message") or found.get("error") or found.get("msg") or ""
    if isinstance(found, list):
        found = "; ".join(
            f"{_place(item.get('loc'))}{item['msg']}"
            for item in found
            if isinstance(item, dict) and isinstance(item.get("msg"), str)
        )
    words = " ".join(found.split()) if isinstance(found, str) else ""
    return words if len(words) <= MAX_SENTENCE else f"{words[:MAX_SENTENCE]}…"


def _place(location: Any) -> str:
    parts = location if isinstance(location, list) else []
    name = ".".join(str(part) for part in parts if part != "body")
    return f"{name}: " if name else ""


def _encode(body: dict[str, Any]) -> bytes:
    try:
        return dumps(body).encode()
    except RecursionError:
        raise InvalidRequestError("The body is nested too deeply") from None


class WebProxy(Pooled):
    """Forwards requests to ComfyDeploy's web site; other addresses are not possible."""

    def __init__(self, url: str = DEFAULT_SITE, *, reply_timeout: float = 30.0) -> None:
        super().__init__(silence=SILENCE_TIMEOUT)
        self.url = url.rstrip("/")
        self.reply_timeout = reply_timeout  # seconds that the site has after the complete request

    def __repr__(self) -> str:
        return f"<WebProxy of {clean_url(self.url)}>"

    def address(self, tail: str, query: str = "") -> URL:
        """Return the address of a page, whose path and query are encoded as in the request.

        InvalidRequestError if a server or a browser could read the path as one outside of the
        site.
        """
        _check_tail(tail)
        base = str(self._base().with_query(None).with_fragment(None)).rstrip("/")
        kept = proxy.without_credentials(query)
        address = f"{base}/{quote(tail, safe=_PATH_SAFE, encoding='latin-1')}"
        if kept:
            address += f"?{quote(kept, safe=_QUERY_SAFE, encoding='latin-1')}"
        return URL(address, encoded=True)

    async def send(
        self,
        method: str,
        address: URL,
        headers: Mapping[str, str],
        *,
        key: str | None = None,
        body: AsyncIterator[bytes] | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request; return the response before its body is read. The caller closes it."""
        sent = proxy.request_headers(headers)
        sent.setdefault("Accept-Encoding", "identity")
        if body is None:
            sent.pop("Content-Length", None)
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        try:
            return await proxy.send(
                self.session, method, address, sent, body, reply_timeout=self.reply_timeout
            )
        except asyncio.TimeoutError:
            raise CloudError(f"{clean_url(self.url)} did not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Not chained: aiohttp's errors contain the request's headers, and so the key.
            reason = getattr(getattr(error, "os_error", None), "strerror", None)
            raise CloudError(
                f"{clean_url(self.url)} cannot be reached: {reason or type(error).__name__}"
            ) from None

    async def chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield the body of a response as it arrives."""
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise CloudError(
                f"{clean_url(self.url)} ended its response too early: {type(error).__name__}"
            ) from None

    def location(self, response: aiohttp.ClientResponse, here: str) -> str | None:
        """Return the target of a redirect, below ``here`` for a page of the site."""
        return proxy.redirect_target(response, self._base(), here, as_sent=False)

    def _base(self) -> URL:
        try:
            base = URL(self.url)
        except ValueError:
            base = URL()
        if base.scheme not in ("http", "https") or not base.host:
            raise CloudError("comfydeploy_url is not an http:// or https:// address")
        return base


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
