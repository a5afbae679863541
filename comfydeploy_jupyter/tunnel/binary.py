"""The cloudflared program: configured, on PATH, in the cache, or downloaded from its release."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import re
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from ..util.fetch_policy import ALLOWED, FetchPolicy
from ..util.sessions import new_session
from ..util.tasks import wait_for
from .failures import failure

if TYPE_CHECKING:
    from ..errors import TunnelFailedError

NAME = "cloudflared"
LATEST_RELEASE = "https://api.github.com/repos/cloudflare/cloudflared/releases/latest"

HINT = (
    "Install cloudflared (https://developers.cloudflare.com/cloudflare-one/connections/"
    "connect-networks/downloads/), set cloudflared_path to it, or allow its download: "
    "c.ComfyDeploy.cloudflared_download = True"
)
LARGEST = 256 * 1024 * 1024  # bytes; the file of a release has about 40 MB
LONGEST_SILENCE = 30.0  # s
LONGEST_DOWNLOAD = 300.0  # s
CHUNK = 1024 * 1024

_ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "armhf",
    "armv6l": "arm",
    "i386": "386",
    "i686": "386",
}


@dataclass(frozen=True)
class _Asset:
    name: str
    url: str
    sha256: str


class Binary:
    """Finds or downloads the cloudflared program.

    Parameters
    ----------
    configured : str
        Configured path or name; empty if none. If set, no other place is searched.
    cache : pathlib.Path
        Folder for the downloaded program.
    download : bool
        Whether the user has agreed to the download, now and later.
    release_url : str
        Address of the release in GitHub's API: a list of its files with their SHA-256.
    fetching : FetchPolicy
        Whether any download is allowed.
    """

    def __init__(
        self,
        cache: Path,
        *,
        configured: str = "",
        download: bool = False,
        release_url: str = LATEST_RELEASE,
        fetching: FetchPolicy = ALLOWED,
    ) -> None:
        self._cache = cache
        self._configured = configured
        self._download = download
        self._release_url = release_url
        self._fetching = fetching
        self._lock = asyncio.Lock()

    async def path(self, *, download: bool = False) -> Path:
        """Return the path of the program; download it if necessary and allowed.

        Parameters
        ----------
        download : bool
            Whether the user has agreed to the download this time.

        Raises
        ------
        TunnelFailedError
            If there is none (``no_binary``), or the download fails (``download_failed``).
        OfflineError
            If there is none, and downloads are disabled.
        """
        async with self._lock:
            found = await asyncio.to_thread(self._find)
            if found is not None:
                return found
            if self._configured:
                raise failure(
                    "no_binary",
                    f"cloudflared_path: {self._configured!r} is not a program that can be run",
                    hint=HINT,
                )
            if not (self._download or download):
                raise failure(
                    "no_binary",
                    "There is no cloudflared on this machine",
                    hint=HINT,
                    can_download=not self._fetching.offline,
                )
            self._fetching.require("cloudflared")
            try:
                return await wait_for(self._fetch(), LONGEST_DOWNLOAD)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError, tarfile.TarError) as error:
                why = str(error) or type(error).__name__
                raise _not_fetched(f"cloudflared cannot be downloaded: {why}") from error

    def _find(self) -> Path | None:
        if self._configured:
            found = shutil.which(os.path.expanduser(self._configured))  # noqa: PTH111 - may be a bare name
        else:
            found = shutil.which(NAME) or shutil.which(NAME, path=str(self._cache))
        return Path(found).absolute() if found else None

    async def _fetch(self) -> Path:
        async with new_session(silence=LONGEST_SILENCE, trust_env=True) as session:
            async with session.get(self._release_url, raise_for_status=True) as answer:
                asset = _choose(await answer.json(content_type=None))
            part = await asyncio.to_thread(_Part, self._cache)
            try:
                async with session.get(asset.url, raise_for_status=True) as answer:
                    async for chunk in answer.content.iter_chunked(CHUNK):
                        await asyncio.to_thread(part.write, chunk)
                return await asyncio.to_thread(part.install, asset, self._cache / NAME)
            finally:
                await asyncio.to_thread(part.close)


class _Part:
    """A download that has not ended; call its methods in threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".cloudflared-")
        self._path = Path(name)
        self._file = os.fdopen(descriptor, "wb")
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._file.write(chunk)
        if self._file.tell() > LARGEST:
            raise _not_fetched("The download is too large to be cloudflared")

    def install(self, asset: _Asset, target: Path) -> Path:
        """Verify the file, extract it, make it executable and rename it to its final name."""
        digest = self._digest.hexdigest()
        if digest != asset.sha256:
            raise _not_fetched(
                f"The download from {asset.url} is not the release: its SHA-256 is {digest}, not "
                f"{asset.sha256}"
            )
        self._file.flush()
        if asset.name.endswith(".tgz"):
            self._unpack(asset.name)
        os.fsync(self._file.fileno())
        self._path.chmod(0o755)
        self._file.close()  # a program that is open for writing cannot be executed
        self._path.replace(target)
        return target

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _unpack(self, archive_name: str) -> None:
        with tarfile.open(self._path, "r:gz") as archive, tempfile.TemporaryFile() as program:
            members = [member for member in archive if member.isfile() and member.name == NAME]
            found = archive.extractfile(members[0]) if members else None
            if found is None:
                raise tarfile.TarError(f"{archive_name} has no program {NAME}")
            shutil.copyfileobj(found, program)
            program.seek(0)
            self._file.seek(0)
            self._file.truncate()
            shutil.copyfileobj(program, self._file)
        self._file.flush()


def asset_name(system: str = sys.platform, machine: str | None = None) -> str:
    """Return the name of the file in the release for a platform, by default this one.

    Raises
    ------
    TunnelFailedError
        If the release has no file for the platform.
    """
    machine = (machine or platform.machine()).lower()
    architecture = _ARCHITECTURES.get(machine)
    if architecture is not None and system == "linux":
        return f"{NAME}-linux-{architecture}"
    if architecture in {"amd64", "arm64"} and system == "darwin":
        return f"{NAME}-darwin-{architecture}.tgz"
    raise _not_fetched(f"There is no cloudflared to download for {system} on {machine}")


def _choose(release: Any) -> _Asset:
    """Return the file of a release for this platform, with its checksum."""
    wanted = asset_name()
    listed = release.get("assets") if isinstance(release, dict) else None
    for asset in listed if isinstance(listed, list) else ():
        if isinstance(asset, dict) and asset.get("name") == wanted:
            url = str(asset.get("browser_download_url") or "")
            digest = str(asset.get("digest") or "").lower().removeprefix("sha256:")
            if not digest:  # older releases only have it in their notes
                body = str(release.get("body"))
                notes = re.findall(r"(?<![\w.-])([\w.-]+):\s*([0-9a-fA-F]{64})\b", body)
                digest = dict(notes).get(wanted, "").lower()
            if re.fullmatch(r"[0-9a-f]{64}", digest) and re.match(r"https?://", url):
                return _Asset(wanted, url, digest)
            raise _not_fetched(
                f"The release contains no SHA-256 of {wanted}, so it is not downloaded"
            )
    raise _not_fetched(f"The release has no file {wanted}")


def _not_fetched(message: str) -> TunnelFailedError:
    return failure("download_failed", message, hint=HINT)
