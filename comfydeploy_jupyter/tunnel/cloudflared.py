"""The cloudflared program, its process, and the reasons why a tunnel is not up."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import aiohttp

from ..errors import TunnelFailedError
from ..util.child import Child, child_environment
from ..util.http import new_session
from ..util.system import FetchPolicy
from ..util.tasks import wait_for
from .gate import PARAMETER

if TYPE_CHECKING:
    from ..extension import ComfyDeploy

Reason = Literal[
    "no_binary",
    "gate_failed",
    "bad_certificate",
    "download_failed",
    "rate_limited",
    "port_blocked",
    "service_unreachable",
    "token_refused",
    "not_protected",
    "exited",
    "timed_out",
    "stopped",
]

LOG_LINES = 20

# The log since the start is searched for these patterns in this order.
_SIGNS: tuple[tuple[Reason, re.Pattern[str], str], ...] = (
    (
        "rate_limited",
        re.compile(r"\b429\b|error code: 1015|Too Many Requests", re.IGNORECASE),
        "Too many quick tunnels were requested; wait some minutes, or use a named tunnel",
    ),
    (
        "token_refused",
        re.compile(r"token is not valid|Unauthorized: |Invalid tunnel secret", re.IGNORECASE),
        "Cloudflare does not accept the token of the tunnel",
    ),
    (
        "port_blocked",
        re.compile(
            r"failed to dial|dial (?:a )?quic|no recent network activity|:7844\b"
            r"|Unable to establish connection with Cloudflare edge",
            re.IGNORECASE,
        ),
        "The network blocks connections to port 7844 of Cloudflare (UDP and TCP)",
    ),
    (
        "service_unreachable",
        re.compile(r"failed to (?:request|unmarshal|parse) quick Tunnel", re.IGNORECASE),
        "Cloudflare's service for quick tunnels cannot be reached, or did not create one",
    ),
)


def failure(
    reason: Reason,
    message: str,
    log: list[str] | None = None,
    *,
    hint: str | None = None,
    **details: Any,
) -> TunnelFailedError:
    return TunnelFailedError(
        message,
        details={"reason": reason, "log": (log or [])[-LOG_LINES:], **details},
        extra=None if hint is None else {"hint": hint},
    )


def why_it_ended(log: list[str], exit_text: str) -> TunnelFailedError:
    """Return why a cloudflared process exited by itself, according to its output."""
    kept = [line.strip() for line in log if line.strip() and " INF " not in line]
    last = f": {kept[-1]}" if kept else ""
    return _by_log(log, "exited", f"cloudflared ended ({exit_text}){last}")


def _by_log(log: list[str], reason: Reason, message: str) -> TunnelFailedError:
    """Return the reason that the log shows, else the given one."""
    text = "\n".join(log)
    for known, pattern, meaning in _SIGNS:
        if pattern.search(text):
            return failure(known, meaning, log)
    return failure(reason, message, log)


NAME = "cloudflared"

HINT = (
    "Install cloudflared (https://developers.cloudflare.com/cloudflare-one/connections/"
    "connect-networks/downloads/), set cloudflared_path to it, or allow its download: "
    "c.ComfyDeploy.cloudflared_download = True"
)
MAX_BYTES = 256 * 1024 * 1024  # the file of a release has about 40 MB
SILENCE_TIMEOUT = 30.0  # seconds
DOWNLOAD_TIMEOUT = 300.0  # seconds
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
    """The cloudflared program: configured, on PATH, in the cache, or downloaded.

    If a path is configured, no other place is searched.
    """

    def __init__(self, cache: Path, settings: ComfyDeploy) -> None:
        self._cache = cache
        self._settings = settings
        self._lock = asyncio.Lock()

    async def path(self, *, download: bool = False) -> Path:
        """Return the path of the program; download it if necessary and allowed.

        ``download`` is whether the user has agreed to it this time.
        """
        async with self._lock:
            found = await asyncio.to_thread(self._find)
            if found is not None:
                return found
            if configured := self._settings.cloudflared_path:
                raise failure(
                    "no_binary",
                    f"cloudflared_path: {configured!r} is not a program that can be run",
                    hint=HINT,
                )
            fetching = FetchPolicy(self._settings.offline)
            if not (self._settings.cloudflared_download or download):
                more: dict[str, Any] = {} if fetching.offline else {"can_download": True}
                text = "There is no cloudflared on this machine"
                raise failure("no_binary", text, hint=HINT, **more)
            fetching.require("cloudflared")
            try:
                return await wait_for(self._fetch(), DOWNLOAD_TIMEOUT)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError, tarfile.TarError) as error:
                why = str(error) or type(error).__name__
                raise _not_fetched(f"cloudflared cannot be downloaded: {why}") from error

    def _find(self) -> Path | None:
        if configured := self._settings.cloudflared_path:
            found = shutil.which(os.path.expanduser(configured))  # noqa: PTH111 - may be a bare name
        else:
            found = shutil.which(NAME) or shutil.which(NAME, path=str(self._cache))
        return Path(found).absolute() if found else None

    async def _fetch(self) -> Path:
        async with new_session(silence=SILENCE_TIMEOUT, trust_env=True) as session:
            release = self._settings.cloudflared_release_url
            async with session.get(release, raise_for_status=True) as response:
                asset = _choose(await response.json(content_type=None))
            part = await asyncio.to_thread(_Part, self._cache)
            try:
                async with session.get(asset.url, raise_for_status=True) as response:
                    async for chunk in response.content.iter_chunked(CHUNK):
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
        if self._file.tell() > MAX_BYTES:
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
    machine = (machine or platform.machine()).lower()
    architecture = _ARCHITECTURES.get(machine)
    if architecture is not None and system == "linux":
        return f"{NAME}-linux-{architecture}"
    if architecture in {"amd64", "arm64"} and system == "darwin":
        return f"{NAME}-darwin-{architecture}.tgz"
    raise _not_fetched(f"There is no cloudflared to download for {system} on {machine}")


def _choose(release: Any) -> _Asset:
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


POLL_INTERVAL = 0.1  # seconds between two reads of the log during the start
NAME_TIMEOUT = 3.0  # seconds that the configuration of a named tunnel may arrive after it is up
ALL_LINES = 2000
REDACTED = "<token>"

# A line that contains only the address and, possibly, a timestamp, a level and a frame. The address
# of Cloudflare's API is part of error messages.
_QUICK_URL = re.compile(
    r"^(?:\S+Z\s{1,9})?(?:INF\s{1,9})?\|?\s{0,99}"
    r"(https://(?!api\.)[a-z0-9-]+\.trycloudflare\.com)/?\s{0,199}\|?\s{0,9}$"
)
_HOSTNAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.IGNORECASE)
_SECRET = re.compile(rf"\b{PARAMETER}=[^&\s\"]+")
_REGISTERED = re.compile(r"Registered tunnel connection|Connection \S+ registered")
_CONFIGURED = re.compile(r'Updated to new configuration config="((?:\\.|[^"\\])*)"')


class Cloudflared:
    """One cloudflared process that is killed if this server exits."""

    def __init__(self, binary: Binary, folder: Path, name: str, settings: ComfyDeploy) -> None:
        self._binary = binary
        self._folder = folder
        self._name = name
        self._settings = settings
        self._child = Child("cloudflared", folder / f"{name}.log", grace=3.0)
        self._token: str | None = None

    async def start(
        self,
        service: str,
        *,
        token: str | None = None,
        hostname: str | None = None,
        download: bool = False,
    ) -> str | None:
        """Start it, wait until its tunnel is up, and return the public address.

        The address of a named tunnel may stay unknown (None). After a failure the process is
        stopped, and TunnelFailedError has the reason.
        """
        program = await self._binary.path(download=download)
        self._token = token
        await asyncio.to_thread(self._prepare)
        command = [
            *(str(program), "tunnel", "--config", str(self._config_path), "--no-autoupdate"),
        ]
        if (protocol := self._settings.tunnel_protocol) != "auto":
            command += ["--protocol", protocol]
        command += ["--url", service]
        if service.startswith("https:"):
            command.append("--no-tls-verify")  # nobody can issue a certificate for 127.0.0.1
        if token is not None:
            command += ["run", "--token-file", str(self._token_path)]
        # cloudflared would use its environment variables as further options.
        environment = child_environment(secrets=False)
        for variable in [name for name in environment if name.startswith("TUNNEL_")]:
            del environment[variable]
        try:
            await self._child.start(command, cwd=self._folder, env=environment)
            return await self._until_it_is_there(hostname)
        except OSError as error:
            await self.end()
            raise failure("exited", f"cloudflared cannot be started: {error}") from error
        except BaseException:
            await self.end()
            raise
        finally:
            await asyncio.to_thread(self._token_path.unlink, missing_ok=True)

    async def wait(self) -> None:
        await self._child.wait()

    async def end(self) -> None:
        await self._child.end()

    async def why_it_ended(self) -> TunnelFailedError:
        return why_it_ended(await self.log(), self._child.exit_text())

    async def log(self, lines: int = ALL_LINES) -> list[str]:
        """Return the last lines of its output since its start, without tokens and secrets.

        If it cannot forward a request, it prints the address, which contains the gate's secret.
        """
        found = await self._child.log_tail(lines, this_run=True)
        found = [_SECRET.sub(f"{PARAMETER}=<secret>", line) for line in found]
        token = self._token
        return [line.replace(token, REDACTED) for line in found] if token else found

    async def services(self) -> dict[str, str] | None:
        """Return the target of each public name in the last configuration from Cloudflare.

        "" is the rule for all other names. None if Cloudflare has sent none: then the command line
        counts.
        """
        for line in reversed(await self.log()):
            found = _CONFIGURED.search(line)
            if found is not None:
                with contextlib.suppress(ValueError):
                    return _ingress(json.loads(json.loads(f'"{found[1]}"')))
        return None

    def clean_up(self) -> None:
        """Stop the process of a killed Jupyter and remove its token. This method blocks."""
        self._child.end_leftover()
        self._token_path.unlink(missing_ok=True)

    @property
    def _config_path(self) -> Path:
        return self._folder / "empty.yml"

    @property
    def _token_path(self) -> Path:
        return self._folder / f"{self._name}.token"

    def _prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The user's own config.yml would override the command line.
        self._config_path.write_text("", encoding="utf-8")
        if self._token is not None:
            self._token_path.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = os.open(self._token_path, flags, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor has no path
                file.write(self._token)

    async def _until_it_is_there(self, hostname: str | None) -> str | None:
        timeout = self._settings.tunnel_timeout
        deadline = time.monotonic() + timeout
        ended = asyncio.ensure_future(self._child.wait())
        try:
            while not ended.done() and time.monotonic() < deadline:
                log = await self.log()
                if any(_REGISTERED.search(line) for line in log):
                    if self._token is not None:
                        return await self._named_url(ended, hostname)
                    if (url := _quick_url(log)) is not None:
                        return url
                await asyncio.wait([ended], timeout=POLL_INTERVAL)
        finally:
            ended.cancel()
        if ended.done():
            raise await self.why_it_ended()
        message = f"The tunnel was not reachable within {timeout:g} s"
        raise _by_log(await self.log(), "timed_out", message)

    async def _named_url(self, ended: asyncio.Future[None], hostname: str | None) -> str | None:
        """Return a named tunnel's address; its configuration may arrive a moment later."""
        if hostname is not None:
            return f"https://{hostname}"
        deadline = time.monotonic() + NAME_TIMEOUT
        while not ended.done() and time.monotonic() < deadline:
            for name in await self.services() or ():
                if _HOSTNAME.fullmatch(name):
                    return f"https://{name}"
            await asyncio.wait([ended], timeout=POLL_INTERVAL)
        return None


def leads_to(service: str, url: str) -> bool:
    try:
        there, here = urlsplit(service), urlsplit(url)
        return _host(there.hostname) == _host(here.hostname) and there.port == here.port
    except ValueError:
        return False


def _host(name: str | None) -> str:
    return "127.0.0.1" if name in ("localhost", "::1", "0.0.0.0") else name or ""  # noqa: S104 - not bound


def _quick_url(log: list[str]) -> str | None:
    for line in reversed(log):
        found = _QUICK_URL.match(line)
        if found is not None:
            return found[1]
    return None


def _ingress(config: Any) -> dict[str, str]:
    rules = config.get("ingress") if isinstance(config, dict) else None
    found: dict[str, str] = {}
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict):
            found.setdefault(str(rule.get("hostname") or ""), str(rule.get("service") or ""))
    return found
