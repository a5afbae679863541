"""What may be sent to the ComfyDeploy service, and the one call that a native run needs."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from ..errors import CloudError, ForbiddenAPIURLError, NoAPIKeyError


class CloudAccess:
    """The allow list and the key for the ComfyDeploy service.

    Parameters
    ----------
    allowed_api_urls : tuple of str
        Addresses that may receive a key; a longer path below one of them is allowed too.
    api_key : str or None
        The configured key, used where a request brings none.
    """

    def __init__(self, allowed_api_urls: tuple[str, ...], api_key: str | None) -> None:
        self._allowed = tuple(urlsplit(url) for url in allowed_api_urls)
        self._api_key = api_key
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def check_url(self, url: str, *, field: str) -> str:
        """Return ``url`` if it may receive a key.

        Raises
        ------
        ForbiddenAPIURLError
            If its scheme, host, port or path is not below an allowed address.
        """
        try:
            asked = urlsplit(url)
            port = asked.port
        except ValueError:
            asked, port = urlsplit(""), None
        for allowed in self._allowed:
            prefix = allowed.path.rstrip("/")
            if (
                (asked.scheme, asked.hostname, port)
                == (allowed.scheme, allowed.hostname, allowed.port)
                and asked.username is None
                and (asked.path == prefix or asked.path.startswith(f"{prefix}/") or not prefix)
            ):
                return url
        raise ForbiddenAPIURLError(
            f"{field}: {url!r} is not on the list allowed_api_urls",
            details={"field": field, "allowed_api_urls": [a.geturl() for a in self._allowed]},
        )

    def key(self, given: str | None) -> str:
        """Return the key of a request, else the configured one.

        Raises
        ------
        NoAPIKeyError
            If there is neither.
        """
        key = given or self._api_key
        if not key:
            raise NoAPIKeyError(
                "No ComfyDeploy API key: send it as X-ComfyDeploy-Token, or configure api_key"
            )
        return key

    def key_for(self, url: str) -> str | None:
        """Return the configured key if an address may have it, else None."""
        try:
            self.check_url(url, field="url")
        except ForbiddenAPIURLError:
            return None
        return self._api_key

    async def native_run(self, endpoint: str, body: dict[str, Any], key: str) -> dict[str, Any]:
        """Ask the service for the body of a native run.

        Parameters
        ----------
        endpoint : str
            ``native_run_api_endpoint`` of the request, already checked.
        body : dict
            The request's body, without its credentials.
        key : str
            The API key.

        Returns
        -------
        dict
            The body of the run; ``workflow_api_json`` in it is a ``workflow_api``.

        Raises
        ------
        CloudError
            If the service does not answer with a JSON object.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        try:
            async with self._session.post(
                endpoint,
                json=body,
                headers={"Authorization": f"Bearer {key}"},
                allow_redirects=False,
            ) as response:
                status = response.status
                answer = await response.json(content_type=None) if status < 300 else None
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError) as fault:
            raise CloudError(f"ComfyDeploy does not answer: {type(fault).__name__}") from fault
        if not isinstance(answer, dict):
            error = CloudError(
                f"ComfyDeploy answered {status} to the native run", details={"status": status}
            )
            if 400 <= status < 500:
                error.status = status
            raise error
        if "workflow_api_json" in answer:
            answer["workflow_api"] = answer.pop("workflow_api_json")
        return answer
