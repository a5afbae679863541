"""The sites that models come from: addresses, tokens, requests."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ..errors import InvalidRequestError
from .http import TransferError, get_json, request

if TYPE_CHECKING:
    import aiohttp

HUGGINGFACE = "https://huggingface.co"
CIVITAI = "https://civitai.com"


@dataclass(frozen=True)
class RemoteFile:
    """A file that a site offers."""

    url: str
    filename: str
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class ModelSites:
    """The sites Hugging Face and Civitai, or mirrors of them."""

    huggingface_url: str = HUGGINGFACE
    civitai_url: str = CIVITAI
    huggingface_token: str | None = field(default=None, repr=False)
    civitai_token: str | None = field(default=None, repr=False)

    def token(self, url: str) -> str | None:
        """Return the token for the site of an address, or None."""
        if _below(url, self.huggingface_url):
            return self.huggingface_token
        return self.civitai_token if _below(url, self.civitai_url) else None

    def name(self, url: str) -> str:
        """Return the name of an address' site for messages."""
        if _below(url, self.huggingface_url):
            return "Hugging Face"
        return "Civitai" if _below(url, self.civitai_url) else urlsplit(url).hostname or "the host"

    def hint(self, url: str) -> str:
        """Return advice for an address whose site refuses a file."""
        if _below(url, self.huggingface_url):
            if self.huggingface_token:
                return "accept the model's terms on its page, or use another token as HF_TOKEN"
            return "set HF_TOKEN to a token of an account that may have this model"
        if _below(url, self.civitai_url):
            return "set CIVITAI_API_KEY to the key of an account that may have this model"
        return "the address requires a login"

    @property
    def addresses(self) -> tuple[str, str]:
        """The addresses of the sites, which may be mirrors in a private network."""
        return self.huggingface_url, self.civitai_url

    def at_mirror(self, url: str) -> str:
        """Return the address at the mirror for a file at a site; other links are unchanged."""
        for base in {HUGGINGFACE, self.huggingface_url}:
            if _below(url, base):
                with suppress(InvalidRequestError):
                    return self.huggingface(url, None).url
                return self.huggingface_url + url[len(base) :]
        if _below(url, CIVITAI):
            return self.civitai_url + url[len(CIVITAI) :]
        return url

    def is_page(self, url: str) -> bool:
        """Return whether an address is the page of a model at Civitai, and not a file."""
        at_civitai = any(_below(url, base) for base in (CIVITAI, self.civitai_url))
        return at_civitai and urlsplit(url).path.startswith("/models/")

    def huggingface(self, url: str, file: str | None) -> RemoteFile:
        """Return the file for an address at Hugging Face, or for a repository and a file name."""
        path = url
        for base in (HUGGINGFACE, self.huggingface_url):
            if _below(url, base):
                path = urlsplit(url).path[len(urlsplit(base).path.rstrip("/")) :]
        path = path.strip("/")
        found = re.fullmatch(r"([^/:]+/[^/:]+)/(?:resolve|blob|raw)/([^/]+)/(.+)", path)
        if found:
            repo, revision, name = found.groups()
        elif re.fullmatch(r"[\w.-]+/[\w.-]+", path) and file:
            repo, revision, name = path, "main", quote(file)
        else:
            raise InvalidRequestError.of_field(
                "url",
                "must be https://huggingface.co/<owner>/<repo>/resolve/<revision>/<file>,"
                " or <owner>/<repo> with the file's name as filename",
            )
        return RemoteFile(
            f"{self.huggingface_url}/{repo}/resolve/{revision}/{name}", unquote(name.split("/")[-1])
        )

    async def civitai(self, http: aiohttp.ClientSession, url: str) -> RemoteFile:
        """Request the file for an address at Civitai from its API."""
        asked = urlsplit(url)
        version = next(iter(parse_qs(asked.query).get("modelVersionId", ())), None)
        download = re.search(r"/api/download/models/(\d+)", asked.path)
        page = re.search(r"/models/(\d+)", asked.path)
        if download or (version and version.isdecimal()):
            number = download.group(1) if download else version
            found = await self._ask_civitai(http, f"model-versions/{number}")
        elif page:
            model = await self._ask_civitai(http, f"models/{page.group(1)}")
            versions = model.get("modelVersions")
            found = versions[0] if isinstance(versions, list) and versions else {}
        else:
            raise InvalidRequestError.of_field(
                "url", "must be the page of a model at Civitai, or a download address there"
            )
        return self._civitai_file(found)

    async def _ask_civitai(self, http: aiohttp.ClientSession, route: str) -> dict[str, Any]:
        url = f"{self.civitai_url}/api/v1/{route}"
        async with request(
            http, "GET", url, what="Civitai", token=self.civitai_token, passes=(401, 403)
        ) as response:
            if response.status in (401, 403):
                raise TransferError(
                    f"Civitai answered {response.status}: {self.hint(url)}", again=False
                )
            return await get_json(response, "Civitai")

    def _civitai_file(self, version: dict[str, Any]) -> RemoteFile:
        listed = version.get("files")
        files = [f for f in listed if isinstance(f, dict)] if isinstance(listed, list) else []
        chosen = next((f for f in files if f.get("primary") is True), files[0] if files else {})
        url = chosen.get("downloadUrl") or version.get("downloadUrl")
        if not isinstance(url, str):
            raise TransferError("Civitai has no file of this model", again=False)
        if _below(url, CIVITAI):
            url = self.civitai_url + url[len(CIVITAI) :]
        hashes = chosen.get("hashes")
        digest = str((hashes if isinstance(hashes, dict) else {}).get("SHA256") or "").lower()
        return RemoteFile(
            url,
            str(chosen.get("name") or ""),
            digest if re.fullmatch("[0-9a-f]{64}", digest) else None,
        )


def _below(url: str, base: str) -> bool:
    return url == base or url.startswith((f"{base}/", f"{base}?"))
