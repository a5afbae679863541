"""A Jupyter server that tests kill and start again, and whose routes they call."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.jupyter_process import JupyterProcess
from tests.specification import check_reply
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class RestartableJupyter(JupyterProcess):
    """A Jupyter server that uses the same data folder after each restart.

    Parameters
    ----------
    folder : pathlib.Path
        The parent of its folders.
    settings : dict
        The extension's settings; ``data_dir`` is ``folder / "comfydeploy"`` unless given.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        settings = {"data_dir": str(folder / "comfydeploy"), **settings}
        super().__init__(folder, {"ComfyDeploy": settings})

    def start(self) -> None:
        """Start it and wait until the extension replies."""
        super().start()
        until(
            lambda: self.get("check-status"),
            lambda answer: answer[0] == 200,
            what=self.log,
        )

    def kill(self) -> None:
        """End only this process by ``kill -9``, like the out-of-memory killer of the kernel."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        super().kill()

    def get(self, path: str, **params: str) -> tuple[int, Any]:
        return self._call("GET", path, params=params)

    def post(self, path: str, body: Any, *, timeout: float = 60.0) -> tuple[int, Any]:
        return self._call("POST", path, json=body, timeout=timeout)

    def upload(self, name: str, content: bytes, **fields: str) -> tuple[int, Any]:
        """Upload one file."""
        return self._call("POST", "upload-file", files={"file": (name, content)}, data=fields)

    def until(self, prompt_id: str, *statuses: str, timeout: float = 30.0) -> dict[str, Any]:
        """Wait until a run has one of the statuses."""
        _, body = until(
            lambda: self.get("check-status", prompt_id=prompt_id),
            lambda answer: answer[0] == 200 and answer[1]["status"] in statuses,
            timeout=timeout,
        )
        return dict(body)

    def stream(self, prompt_id: str, *, last_id: int = 0) -> list[tuple[int, Any]]:
        """Read the stream of a run to its end: a list of (id, data)."""
        found: list[tuple[int, Any]] = []
        with requests.get(
            self._url("run/streaming"),
            params={"prompt_id": prompt_id},
            headers={**self._headers, "Last-Event-ID": str(last_id)},
            stream=True,
            timeout=60,
        ) as answer:
            assert answer.status_code == 200, answer.text
            event_id = 0
            for line in answer.iter_lines():
                name, _, value = line.decode().partition(": ")
                if name == "id":
                    event_id = int(value)
                elif name == "data":
                    found.append((event_id, json.loads(value)))
        return found

    def first_id(self, prompt_id: str) -> int:
        """Return the id of the first event in the stream of a run."""
        with requests.get(
            self._url("run/streaming"),
            params={"prompt_id": prompt_id},
            headers=self._headers,
            stream=True,
            timeout=60,
        ) as answer:
            return int(next(answer.iter_lines()).removeprefix(b"id: "))

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}

    def _url(self, path: str) -> str:
        return f"{self.url}comfyui-deploy/{path}"

    def _call(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        kwargs.setdefault("timeout", 60)
        answer = requests.request(method, self._url(path), headers=self._headers, **kwargs)
        kind = answer.headers.get("Content-Type", "")
        check_reply(method, f"/comfyui-deploy/{path}", answer.status_code, kind, answer.content)
        return answer.status_code, answer.json()


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RestartableJupyter]]:
    """A function that starts a Jupyter server; its argument is the extension's settings.

    ``env`` is added to its environment.
    """
    servers: list[RestartableJupyter] = []

    def start(env: dict[str, str] | None = None, **settings: Any) -> RestartableJupyter:
        servers.append(RestartableJupyter(tmp_path_factory.mktemp("jupyter"), settings))
        servers[-1].env.update(env or {})
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
