"""One cloudflared process: its command line, its address, its failures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp

from ..errors import ComfyUIUnavailableError
from ..util.child import Child, child_environment
from ..util.peers import Peers
from ..util.sessions import CheckedConnector, new_session
from .failures import failure, why_it_ended, why_it_waits
from .gate import PARAMETER

if TYPE_CHECKING:
    from pathlib import Path

    from ..errors import TunnelFailedError
    from .binary import Binary

POLL = 0.1  # s between two reads of the log and the metrics during the start
SILENT_METRICS = (
    3.0  # s with a known address after which missing metrics of cloudflared are ignored
)
NO_METRICS = aiohttp.ClientError, asyncio.TimeoutError, ComfyUIUnavailableError
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
_REGISTERED = "Registered tunnel connection"
_CONFIGURED = re.compile(r'Updated to new configuration config="((?:\\.|[^"\\])*)"')


class Cloudflared:
    """One cloudflared process that is killed if this server exits.

    Parameters
    ----------
    binary : Binary
        Path of the program.
    folder : pathlib.Path
        Folder for its log, its empty configuration and, during the start, its token.
    name : str
        Base name of its files.
    timeout : float
        Seconds that its tunnel has to come up.
    protocol : str
        ``auto``, ``quic`` or ``http2``.
    """

    def __init__(
        self, binary: Binary, folder: Path, name: str, *, timeout: float, protocol: str = "auto"
    ) -> None:
        self._binary = binary
        self._folder = folder
        self._name = name
        self._timeout = timeout
        self._protocol = protocol
        self._child = Child("cloudflared", folder / f"{name}.log", grace=3.0)
        self._token: str | None = None

    @property
    def log_path(self) -> Path:
        """Path of the file with its output."""
        return self._child.log_path

    async def start(
        self,
        service: str,
        *,
        token: str | None = None,
        hostname: str | None = None,
        download: bool = False,
    ) -> str | None:
        """Start it and wait until its tunnel is up; after a failure the process is stopped.

        Parameters
        ----------
        service : str
            The local address that it exposes.
        token : str, optional
            The token of a named tunnel; None for a quick tunnel.
        hostname : str, optional
            The public name of a named tunnel; by default the name in the configuration that
            Cloudflare sends.
        download : bool
            Whether the program may be downloaded this time.

        Returns
        -------
        str or None
            The public address; None for a named tunnel whose name is unknown.

        Raises
        ------
        TunnelFailedError
            If the tunnel does not come up; the error contains the reason.
        """
        program = await self._binary.path(download=download)
        self._token = token
        port = await asyncio.to_thread(self._prepare)
        command = [
            *(str(program), "tunnel", "--config", str(self._config_path), "--no-autoupdate"),
            *("--metrics", f"127.0.0.1:{port}"),
        ]
        if self._protocol != "auto":
            command += ["--protocol", self._protocol]
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
            return await self._until_it_is_there(port, hostname)
        except OSError as error:
            await self.end()
            raise failure("exited", f"cloudflared cannot be started: {error}") from error
        except BaseException:
            await self.end()
            raise
        finally:
            await asyncio.to_thread(self._token_path.unlink, missing_ok=True)

    async def wait(self) -> None:
        """Wait until the process has exited."""
        await self._child.wait()

    async def end(self) -> None:
        """Stop the process if it is running."""
        await self._child.end()

    async def why_it_ended(self) -> TunnelFailedError:
        """Return an error with the reason why the process exited by itself."""
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

        Returns
        -------
        dict of str to str, or None
            None if Cloudflare has sent none, so that the command line is used. The key of the rule
            for all other names is the empty name.
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

    def _prepare(self) -> int:
        """Write its files and return a free port for its metrics."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The user's own config.yml would override the command line.
        self._config_path.write_text("", encoding="utf-8")
        if self._token is not None:
            self._token_path.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = os.open(self._token_path, flags, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor has no path
                file.write(self._token)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            return int(sock.getsockname()[1])

    async def _until_it_is_there(self, port: int, hostname: str | None) -> str | None:
        deadline = time.monotonic() + self._timeout
        ended = asyncio.ensure_future(self._child.wait())
        known_since: float | None = None
        metrics = f"http://127.0.0.1:{port}"
        url: str | None = None
        # Another user may have taken the port first, and would name an address of his own.
        own = CheckedConnector(Peers(child=lambda: self._child.pid))
        try:
            async with new_session(own, total=2.0) as session:
                while not ended.done() and time.monotonic() < deadline:
                    log = await self.log()
                    if self._token is None:
                        url = url or _quick_url(log) or await _quick_hostname(session, metrics)
                    else:
                        url = await self._named_url(hostname)
                    ready = any(_REGISTERED in line for line in log)
                    ready = ready or await _is_ready(session, metrics) is True
                    if ready and (url is not None or self._token is not None):
                        return url or await self._late_name(ended, hostname)
                    if url is not None:
                        known_since = known_since or time.monotonic()
                        trusted = time.monotonic() - known_since >= SILENT_METRICS
                        if trusted and await _is_ready(session, metrics) is None:
                            return url
                    await asyncio.wait([ended], timeout=POLL)
        finally:
            ended.cancel()
        if ended.done():
            raise await self.why_it_ended()
        raise why_it_waits(await self.log(), self._timeout)

    async def _named_url(self, hostname: str | None) -> str | None:
        if hostname is not None:
            return f"https://{hostname}"
        names = [name for name in await self.services() or () if _HOSTNAME.fullmatch(name)]
        return f"https://{names[0]}" if names else None

    async def _late_name(self, ended: asyncio.Future[None], hostname: str | None) -> str | None:
        """Return a named tunnel's address; its configuration may arrive a moment later."""
        deadline = time.monotonic() + SILENT_METRICS
        url = None
        while url is None and not ended.done() and time.monotonic() < deadline:
            await asyncio.wait([ended], timeout=POLL)
            url = await self._named_url(hostname)
        return url


def leads_to(service: str, url: str) -> bool:
    """Return whether a service in Cloudflare's configuration is the given local address."""
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


async def _quick_hostname(session: aiohttp.ClientSession, metrics: str) -> str | None:
    with contextlib.suppress(*NO_METRICS, ValueError):
        async with session.get(f"{metrics}/quicktunnel") as answer:
            found: Any = json.loads(await answer.read()) if answer.status == 200 else None
            name = found.get("hostname") if isinstance(found, dict) else None
            if isinstance(name, str) and _HOSTNAME.fullmatch(name):
                return f"https://{name}"
    return None


async def _is_ready(session: aiohttp.ClientSession, metrics: str) -> bool | None:
    """Return whether it is connected to Cloudflare, None if its metrics are not available."""
    with contextlib.suppress(*NO_METRICS):
        async with session.get(f"{metrics}/ready") as answer:
            return {200: True, 503: False}.get(answer.status)
    return None


def _ingress(config: Any) -> dict[str, str]:
    rules = config.get("ingress") if isinstance(config, dict) else None
    found: dict[str, str] = {}
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict):
            found.setdefault(str(rule.get("hostname") or ""), str(rule.get("service") or ""))
    return found
