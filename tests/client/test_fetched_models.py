"""What `comfy.fetch_models` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from comfydeploy_jupyter.client import Comfy, FetchedModels
from comfydeploy_jupyter.errors import OfflineError, RunTimeoutError

if TYPE_CHECKING:
    from tests.client.small_server import Reply, Request


GRAPH: dict[str, Any] = {"nodes": [], "links": [], "version": 0.4}


def model(name: str, state: str, **more: Any) -> dict[str, Any]:
    source = {"name": name, "folder": "vae", "path": f"models/vae/{name}", "url": "https://x/y"}
    rest = {"size": None, "sha256": None, "pickle": False, "problem": None, "transfer": None}
    return {**source, **rest, "nodes": [], "state": state, **more}


def answer(*models: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {"success": True, "dry_run": False, "offline": False, "models": list(models)}
    return {**body, "transfers": [], "missing_nodes": [], "warnings": [], **more}


def transfer(state: str, sent: int, error: str | None = None) -> dict[str, Any]:
    return {"id": "t1", "state": state, "sent": sent, "size": 2048, "error": error}


def test_downloads_are_waited_for(small_server):
    looks = iter([transfer("active", 1024), transfer("done", 2048)])
    requests: list[Any] = []

    def routes(request: Request, reply: Reply) -> None:
        if request.path.endswith("fetch-models"):
            requests.append(request.body)
            reply.json(answer(model("a.pt", "fetching", pickle=True, transfer="t1")))
        else:
            reply.json({"uploads": [next(looks)]})

    found = Comfy(small_server(routes).url).fetch_models(GRAPH, sizes=True, models=("a.pt",))
    assert requests == [{"workflow": GRAPH, "dry_run": False, "sizes": True, "models": ["a.pt"]}]
    assert isinstance(found, FetchedModels)
    assert not found.refresh().done
    assert (found[0].received, found.total_size) == (1024, 2048)
    assert "2.0 KiB  is being downloaded, 50 %; a pickle" in repr(found)
    assert found.wait(10).done
    assert repr(found) == "vae/a.pt  2.0 KiB  is downloaded"


def test_wait_ends_with_failures_and_with_the_time(small_server):
    looks = [
        transfer("active", 1),
        transfer("failed", 1, "Hugging Face answered 401: set HF_TOKEN"),
    ]

    def routes(request: Request, reply: Reply) -> None:
        if request.path.endswith("fetch-models"):
            reply.json(answer(model("a.safetensors", "fetching", transfer="t1")))
        else:
            reply.json({"uploads": [looks[0]]})

    found = Comfy(small_server(routes).url).fetch_models(GRAPH)
    with pytest.raises(RunTimeoutError):
        found.wait(0.1)
    looks.pop(0)
    assert found.wait(10)[0].state == "failed"
    assert "failed: Hugging Face answered 401: set HF_TOKEN" in repr(found)


def test_the_text_and_html_of_the_result(small_server):
    nodes = [{"class_type": "Wan<b>", "node_ids": ["1"], "needs": "ComfyUI 0.33.0 or newer"}]
    body = answer(
        model("<i>.safetensors", "refused", problem="the link leads inside"),
        model("b.safetensors", "no_link"),
        missing_nodes=nodes,
        warnings=["The sizes were not requested"],
    )
    server = small_server(lambda _, reply: reply.json(body))
    found = Comfy(server.url).fetch_models(GRAPH, dry_run=True)
    assert repr(found).splitlines() == [
        "vae/<i>.safetensors    refused: the link leads inside",
        "vae/b.safetensors      is missing, and the workflow contains no link to it",
        "The sizes were not requested",
        "ComfyUI has no node class Wan<b> (ComfyUI 0.33.0 or newer)",
    ]
    shown = found._repr_html_()
    assert "&lt;i&gt;.safetensors" in shown
    assert "<i>" not in shown
    assert "Wan<b>" not in shown


def test_offline_is_an_error_of_its_own(small_server):
    body = {"success": False, "error": "not fetched", "code": "offline", "details": {}}
    server = small_server(lambda _, reply: reply.json(body, 403))
    with pytest.raises(OfflineError):
        Comfy(server.url).fetch_models(GRAPH)
