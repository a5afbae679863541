"""Determine from cloudflared's output why a tunnel failed."""

from __future__ import annotations

import re
from typing import Any, Literal

from ..errors import TunnelFailedError

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
    can_download: bool = False,
    field: str | None = None,
) -> TunnelFailedError:
    """Return the error for a tunnel that is not up.

    Parameters
    ----------
    reason : str
        Identifier of the cause, for programs.
    message : str
        The cause in one sentence, for the user.
    log : list of str, optional
        The last lines of cloudflared's output.
    hint : str, optional
        Advice for the user.
    can_download : bool
        Whether the same request with ``download`` would download what is missing.
    field : str, optional
        The setting that is wrong.
    """
    details: dict[str, Any] = {"reason": reason, "log": (log or [])[-LOG_LINES:]}
    if can_download:
        details["can_download"] = True
    if field is not None:
        details["field"] = field
    return TunnelFailedError(
        message,
        details=details,
        extra={} if hint is None else {"hint": hint},
    )


def why_it_ended(log: list[str], exit_text: str) -> TunnelFailedError:
    """Return why a cloudflared process exited by itself, according to its output."""
    found = _sign(log)
    if found is not None:
        return failure(*found, log)
    kept = [line.strip() for line in log if line.strip() and " INF " not in line]
    last = kept[-1] if kept else ""
    return failure(
        "exited", f"cloudflared ended ({exit_text})" + (f": {last}" if last else ""), log
    )


def why_it_waits(log: list[str], seconds: float) -> TunnelFailedError:
    """Return why a cloudflared process that is running has not brought up its tunnel in time."""
    found = _sign(log)
    if found is not None:
        return failure(*found, log)
    return failure("timed_out", f"The tunnel was not reachable within {seconds:g} s", log)


def _sign(log: list[str]) -> tuple[Reason, str] | None:
    text = "\n".join(log)
    for reason, pattern, message in _SIGNS:
        if pattern.search(text):
            return reason, message
    return None
