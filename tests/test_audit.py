"""The audit of dependencies, with a small OSV service in place of the one on the internet."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from scripts import audit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Osv(BaseHTTPRequestHandler):
    """Replies like api.osv.dev, with the packages in ``vulnerable`` of its server."""

    server: Service

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        found: dict[str, Any] = {}
        if name in self.server.vulnerable or f"{name} {query['version']}" in self.server.vulnerable:
            affected = {
                "package": {"name": name, "ecosystem": "PyPI"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
                "versions": [query["version"]],
            }
            about = {"id": "PYSEC-0-1", "summary": "bad", "details": "bad", "aliases": []}
            dates = {"modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z"}
            found = {"vulns": [{**about, **dates, "affected": [affected]}]}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


class Service(ThreadingHTTPServer):
    def __init__(self, *vulnerable: str) -> None:
        super().__init__(("127.0.0.1", 0), Osv)
        self.vulnerable = vulnerable
        self.url = f"http://127.0.0.1:{self.server_port}/v1/query"
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    started: list[Service] = []

    def start(*vulnerable: str) -> str:
        started.append(Service(*vulnerable))
        return started[-1].url

    yield start
    for service in started:
        service.shutdown()
        service.server_close()


@pytest.mark.thorough
def test_without_an_audit_service_the_audit_is_reported_as_skipped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nowhere = ["--url", "http://127.0.0.1:9/v1/query"]
    assert audit.main(nowhere) == 0
    assert capsys.readouterr().out.startswith("SKIPPED: nothing was audited")
    assert audit.main([*nowhere, "--required"]) == 1


@pytest.mark.thorough
def test_a_service_without_advisories_is_not_used(
    serve: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(["--url", serve()]) == 0
    assert "SKIPPED" in capsys.readouterr().out


@pytest.mark.thorough
@pytest.mark.parametrize(("vulnerable", "status"), [("requests", 1), ("no-such-package", 0)])
def test_findings_fail(serve: Callable[..., str], vulnerable: str, status: int) -> None:
    assert audit.main(["--url", serve("jinja2 2.4.1", vulnerable)]) == status
