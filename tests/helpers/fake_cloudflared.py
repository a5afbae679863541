"""A replacement for cloudflared: prints its messages and forwards requests.

It does not connect to Cloudflare. Clients connect to a port of 127.0.0.1, and their requests are
forwarded to ``--url`` as by cloudflared, with the headers that Cloudflare adds. The file
``behaviour.json`` beside the program defines its errors; ``starts.jsonl`` there records each start.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

FOLDER = Path(sys.argv[0]).parent


def say(level: str, text: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{stamp} {level} {text}", file=sys.stderr, flush=True)


def box(url: str) -> None:
    width = max(len(url), 80) + 4
    say("INF", f"+{'-' * width}+")
    title = (
        "Your quick Tunnel has been created! Visit it at (it may take some time to be reachable):"
    )
    for line in (title, url):
        say("INF", f"|  {line.ljust(width - 4)}  |")
    say("INF", f"+{'-' * width}+")


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def edge(target: str) -> int:
    """Accept connections of clients; return the port."""
    parts = urlsplit(target)

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n")
        added = b"X-Forwarded-Proto: https\r\n"
        if b"cf-connecting-ip" not in head.lower():
            added += b"Cf-Connecting-Ip: 203.0.113.7\r\n"
        if b"upgrade: websocket" not in head.lower():
            head = head.replace(b"Connection: keep-alive\r\n", b"")
            added += b"Connection: close\r\n"
        try:
            inner, outer = await asyncio.open_connection(parts.hostname, parts.port)
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        outer.write(head + added + b"\r\n")
        await asyncio.gather(pump(reader, outer), pump(inner, writer))
        outer.close()
        writer.close()

    server = await asyncio.start_server(visit, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1])


def option(name: str) -> str | None:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


def limited() -> None:
    say("INF", "Requesting new quick Tunnel on trycloudflare.com...")
    say(
        "ERR",
        "Error unmarshaling QuickTunnel response: error code: 1015 "
        "error=\"invalid character 'e' looking for beginning of value\" "
        'status_code="429 Too Many Requests"',
    )
    print("failed to unmarshal quick Tunnel: invalid character 'e'", file=sys.stderr)


def note(target: str, token_file: str | None, port: int | None) -> None:
    """Check the command line, and record the start."""
    assert sys.argv[1] == "tunnel", sys.argv
    assert Path(option("--config") or "").read_text() == ""
    assert "--no-autoupdate" in sys.argv
    start: dict[str, object] = {
        "pid": os.getpid(),
        "argv": sys.argv,
        "env": dict(os.environ),
        "target": target,
        "edge": port,
    }
    if token_file:
        start["token"] = Path(token_file).read_text()
        start["token_mode"] = stat.S_IMODE(Path(token_file).stat().st_mode)
    with (FOLDER / "starts.jsonl").open("a") as file:
        file.write(json.dumps(start) + "\n")


def wait_for_release() -> None:
    while (FOLDER / "hold").exists():
        time.sleep(0.02)


async def main() -> int:
    behaviour = json.loads((FOLDER / "behaviour.json").read_text())
    mode = behaviour.get("mode", "ok")
    for line in behaviour.get("says", []):
        say("ERR", line)
    target = option("--url") or ""
    token_file = option("--token-file")
    hostname = "" if token_file else f"calm-{uuid.uuid4().hex[:8]}-river.trycloudflare.com"
    note(target, token_file, await edge(target) if mode == "ok" else None)
    say("INF", "Starting metrics server on 127.0.0.1:20241/metrics")
    if mode == "rate_limited":
        limited()
        return 1
    if mode == "exits":
        say("ERR", 'Couldn\'t start tunnel error="the moon is in the wrong place"')
        return 3
    if mode == "no_service":
        url = "https://api.trycloudflare.com/tunnel"
        say("ERR", f'failed to request quick Tunnel: Post "{url}": context deadline exceeded')
        print(url, file=sys.stderr, flush=True)
        return 1
    if mode == "hangs":
        await asyncio.sleep(3600)
    await asyncio.to_thread(wait_for_release)
    if not token_file:
        box(f"https://{hostname}")
    if mode == "port_blocked":
        say(
            "ERR",
            'Failed to dial a quic connection error="failed to dial to edge with quic: '
            'timeout: no recent network activity" connIndex=0 event=0 ip=198.51.100.1',
        )
        say("INF", "Switching to fallback protocol http2 connIndex=0")
        say(
            "ERR",
            'Unable to establish connection with Cloudflare edge error="DialContext error: '
            'dial tcp 198.51.100.1:7844: i/o timeout" connIndex=0',
        )
        await asyncio.sleep(3600)
    if "ingress" in behaviour:
        text = json.dumps(json.dumps({"ingress": behaviour["ingress"]}))
        say("INF", f"Updated to new configuration config={text} version=1")
    say("INF", "Registered tunnel connection connIndex=0 event=0 protocol=quic")
    await asyncio.sleep(3600)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
