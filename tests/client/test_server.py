import json
from pathlib import Path

import numpy as np
import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.client.results import Result
from comfydeploy_jupyter.client.server import Server
from comfydeploy_jupyter.errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    InvalidRequestError,
    NotFoundError,
    ServerUnreachableError,
    UnauthorizedError,
)

GRAPH = {"1": {"class_type": "EmptyImage", "inputs": {"seed": 1}}}


@pytest.mark.parametrize(
    ("given", "url", "token"),
    [
        ("http://h:8888", "http://h:8888/", ""),
        ("http://h:8888/user/a%40b", "http://h:8888/user/a%40b/", ""),
        ("https://h/lab?token=abc", "https://h/", "abc"),
        (" http://h:1/base/tree?token=abc#x ", "http://h:1/base/", "abc"),
        ("http://h/lab/tree/notebooks/quickstart.ipynb?token=abc", "http://h/", "abc"),
        ("https://hub/user/ada/lab/workspaces/a/tree/lab/a.ipynb", "https://hub/user/ada/", ""),
        ("https://hub/user/lab/lab/tree/user/tree.ipynb", "https://hub/user/lab/", ""),
        ("https://hub/user/user/lab", "https://hub/user/user/", ""),
        ("http://h/x/nbclassic/tree/a.ipynb", "http://h/x/", ""),
        ("http://h/doc/workspaces/auto-b/tree/a.ipynb", "http://h/", ""),
        ("http://h/x/tree/sub/a.txt", "http://h/x/", ""),
        ("https://h/lab/jupyter/", "https://h/lab/jupyter/", ""),
        ("https://h/tree/base/", "https://h/tree/base/", ""),
        ("https://hub/user/tree", "https://hub/user/tree/", ""),
        ("http://h/x/notebooks/sub/a.ipynb", "http://h/x/", ""),
        ("http://h/doc/tree/a.ipynb", "http://h/", ""),
        ("http://h/notebooks/ada/", "http://h/notebooks/ada/", ""),
    ],
)
def test_addresses_as_copied_from_a_browser(given, url, token):
    server = Server(given)
    assert (server.url, server.token) == (url, token)


@pytest.mark.parametrize("url", ["localhost:8888", "ftp://h/", "http+unix://%2Ftmp%2Fs", "", "x"])
def test_other_addresses_are_refused(url):
    with pytest.raises(InvalidRequestError, match="url: "):
        Server(url)


def test_owns_accepts_only_routes_of_the_server():
    server = Server("http://h:1/user/x/")
    view = "/user/x/comfyui-deploy/view?filename=a"
    assert server.owns(view) == server.owns(f"http://h:1{view}") == f"http://h:1{view}"
    for other in (f"//evil{view}", f"http://evil{view}", view.replace("/x/", "/y/"), ""):
        assert server.owns(other) is None


def test_values_of_numpy_and_paths_are_sent(small_server):
    server = small_server(lambda request, reply: reply.accept(request))
    inputs = {"a": np.float64(0.5), "b": np.int64(3), "c": Path("/x"), "d": np.array([1, 2])}
    Comfy(server.url).submit(GRAPH, inputs)
    assert server.requests[0].body["inputs"] == {"a": 0.5, "b": 3, "c": "/x", "d": [1, 2]}


def test_inputs_win_over_seed(small_server):
    server = small_server(lambda request, reply: reply.accept(request))
    Comfy(server.url).submit(GRAPH, {"1.seed": 5}, seed=7)
    Comfy(server.url).submit(GRAPH, seed=7)
    assert [r.body["inputs"] for r in server.requests] == [{"1.seed": 5}, {"1.seed": 7}]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("imputs", "did you mean inputs"),
        ("seedmode", "did you mean seed_mode"),
        ("wait", r"run\(\) waits for the end, submit\(\) does not"),
        ("zzz", "options are cancel_with, client_id"),
    ],
)
def test_unknown_options_are_refused_with_a_hint(name, hint):
    comfy = Comfy("http://127.0.0.1:9")
    for call in (comfy.run, comfy.stream, comfy.submit):
        with pytest.raises(TypeError, match=hint):
            call(GRAPH, **{name: 1})


def test_other_arguments_that_cannot_be_sent_are_refused():
    comfy = Comfy("http://127.0.0.1:9")
    with pytest.raises(TypeError, match=r"timeout is an argument of run\(\), and of wait\(\) "):
        comfy.submit(GRAPH, timeout=3)
    with pytest.raises(InvalidRequestError, match="workflow: is missing"):
        comfy.run()
    for value in (float("nan"), {1, 2}, object()):
        with pytest.raises(InvalidRequestError, match="not JSON"):
            comfy.submit(GRAPH, {"a": value})


@pytest.mark.parametrize(
    ("status", "content", "error", "message"),
    [
        (
            503,
            {"error": "no ComfyUI", "code": "comfyui_unavailable", "hint": "set comfyui_url"},
            ComfyUIUnavailableError,
            r"no ComfyUI \(set comfyui_url\)",
        ),
        (403, {"message": "Forbidden"}, UnauthorizedError, "does not accept the token"),
        (404, {"message": "Not Found"}, NotFoundError, "jupyter server extension enable"),
        (502, None, ComfyDeployError, "answered 502"),
        (200, None, ComfyDeployError, "did not return JSON"),
    ],
)
def test_error_replies_are_raised_as_errors(small_server, status, content, error, message):
    body = b"<h1>proxy</h1>" if content is None else json.dumps(content).encode()
    server = small_server(lambda request, reply: reply.raw(body, status))
    with pytest.raises(error, match=message):
        Comfy(server.url).status()


def test_a_login_page_is_not_followed(small_server):
    login = {"Location": "/hub/login?next=x"}
    server = small_server(lambda _, reply: reply.raw(b"", 302, headers=login))
    with pytest.raises(UnauthorizedError, match=r"redirects to another address .*/hub/login"):
        Comfy(server.url, "secret").status()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"timeout": -1}, "timeout: must be a positive number of seconds, not -1"),
        ({"seed": -1}, r"seed: must be a whole number from 0 to 2\*\*64 - 1, not -1"),
        *(
            ({"timeout": value}, "timeout: must be")
            for value in (0, float("nan"), float("inf"), "10", True)
        ),
        *(({"seed": value}, "seed: must be") for value in (np.int64(-1), 2**64, 1.5, True, "7")),
    ],
)
def test_arguments_are_checked_before_anything_is_sent(small_server, arguments, problem):
    server = small_server(lambda _, reply: reply.json({}))
    comfy = Comfy(server.url)
    for call in (comfy.run, comfy.stream, *([] if "timeout" in arguments else [comfy.submit])):
        with pytest.raises(InvalidRequestError, match=problem):
            call(GRAPH, **arguments)
    assert server.requests == []


def test_a_file_whose_connection_breaks_is_no_file(small_server, tmp_path):
    def answer(_, reply):
        reply.start_stream()
        reply.write(b"half of it")
        reply.cut()

    server = Server(small_server(answer).url)
    outputs = {"1": {"images": [{"filename": "a.png"}]}}
    (file,) = Result(server, {"outputs": outputs}).files
    for get in (lambda: Comfy(server.url).view("a.png"), file.read, lambda: file.save(tmp_path)):
        with pytest.raises(ServerUnreachableError, match="broke the connection"):
            get()
    assert list(tmp_path.iterdir()) == []
