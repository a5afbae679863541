"""What `comfy.fetch_models` returns."""

import pytest

from comfydeploy_jupyter.client import Comfy, FetchedModels
from comfydeploy_jupyter.errors import OfflineError, RunTimeoutError

GRAPH = {"nodes": [], "links": [], "version": 0.4}


def model(name, state, **more):
    source = {"name": name, "folder": "vae", "path": f"models/vae/{name}", "url": "https://x/y"}
    rest = {"size": None, "sha256": None, "pickle": False, "problem": None, "transfer": None}
    return {**source, **rest, "nodes": [], "state": state, **more}


def answer(*models, **more):
    body = {"success": True, "dry_run": False, "offline": False, "models": list(models)}
    return {**body, "transfers": [], "missing_nodes": [], "warnings": [], **more}


def transfer(state, sent, error=None):
    return {"id": "t1", "state": state, "sent": sent, "size": 2048, "error": error}


def test_downloads_are_waited_for(small_server):
    looks = iter([transfer("active", 1024), transfer("done", 2048)])
    requests = []

    def routes(request, reply):
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


def test_node_packs_are_waited_for_and_cancelled(small_server):
    looks = iter(["installing", "installed"])
    one = {
        "pack": "kj",
        "title": "KJ",
        "url": "https://x",
        "classes": ["A", "B"],
        "problem": None,
    }
    two = {**one, "pack": "https://github.com/x/y", "title": "Y", "classes": ["C"]}
    requests = []

    def routes(request, reply):
        if request.path.endswith("install-packs"):
            requests.append(request.body)
            packs = [{**each, "state": "waiting"} for each in (one, two)]
            others = [{"class_type": "D", "needs": "ComfyUI 99"}]
            reply.json({"machine": "gpu", "manager": "3.39", "packs": packs, "others": others})
        elif request.path.endswith("cancel-node-packs"):
            requests.append(request.body)
            reply.json({**two, "state": "cancelled"})
        else:
            assert request.query == {"machine": "gpu"}
            state = next(looks)
            now = {"state": state, "problem": None, "progress": "Collecting kornia"}
            reply.json(
                [{**one, **now}, {**two, "state": "waiting", "problem": None, "progress": None}]
            )

    found = Comfy(small_server(routes).url).install_packs(GRAPH, packs=("kj",), machine="gpu")
    sent = {"workflow": GRAPH, "dry_run": False, "packs": ["kj"], "machine": "gpu"}
    assert not found.done
    found.cancel()
    assert requests == [sent, {"pack": two["pack"], "machine": "gpu"}]
    said = "KJ  A, B  is being installed: Collecting kornia\nY  C  is cancelled"
    assert repr(found) == f"{said}\n?  D  ComfyUI 99"
    with pytest.raises(RunTimeoutError):
        found.wait(0)
    assert (found.manager, len(found), found.done) == ("3.39", 2, False)


def test_wait_ends_with_failures_and_with_the_time(small_server):
    looks = [
        transfer("active", 1),
        transfer("failed", 1, "Hugging Face answered 401: set HF_TOKEN"),
    ]

    def routes(request, reply):
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
