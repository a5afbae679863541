"""Signing in from Python: a real Jupyter server in front of a small ComfyDeploy."""

import _thread
import re
import threading
import time

import pytest

from comfydeploy_jupyter.client import Comfy
from comfydeploy_jupyter.client.account import SignInLink
from comfydeploy_jupyter.errors import CloudError, InvalidRequestError, RunTimeoutError
from tests.helpers.fake_comfydeploy import KEY, FakeComfyDeploy


@pytest.fixture(scope="module")
def cloud():
    service = FakeComfyDeploy()
    yield service
    service.close()


@pytest.fixture(scope="module")
def comfy(start_jupyter, cloud, tmp_path_factory):
    server = start_jupyter(
        ComfyDeploy={
            "comfyui_url": "http://127.0.0.1:9",
            "autostart": False,
            "data_dir": str(tmp_path_factory.mktemp("data")),
            "cloud_url": cloud.url,
            "comfydeploy_url": cloud.root,
            "allowed_api_urls": [cloud.root],
        }
    )
    return Comfy(server.url, server.token)


@pytest.fixture
def meanwhile(cloud):
    """A function that calls its argument with the id of the sign-in, once one was requested."""
    cloud.seen.clear()
    threads = []

    def start(act):
        def wait():
            while not cloud.seen:
                threading.Event().wait(0.01)
            act(cloud.seen[0].query["request_id"])

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("timeout", [60, None])
def test_sign_in(comfy, cloud, meanwhile, capsys, timeout):
    meanwhile(cloud.approve)
    assert comfy.login(timeout=timeout) == "Ada"
    request_id = cloud.seen[0].query["request_id"]
    shown = capsys.readouterr().err
    assert f"{cloud.root}/auth/request/{request_id}" in shown
    assert KEY not in shown
    assert comfy.server.get("workflows", target="cloud") == []


def test_an_expired_sign_in(comfy, cloud, meanwhile):
    meanwhile(lambda request_id: cloud.approve(request_id, ""))
    with pytest.raises(CloudError, match="sign-in failed") as caught:
        comfy.login(timeout=60)
    assert caught.value.status == 410


def test_errors_of_the_service_are_retried(comfy, cloud, meanwhile):
    def act(request_id):
        cloud.fail(503, times=4)
        cloud.approve(request_id)

    meanwhile(act)
    assert comfy.login(timeout=60) == "Ada"
    assert len(cloud.seen) > 5


def test_a_sign_in_that_is_not_approved_times_out(comfy, cloud):
    with pytest.raises(RunTimeoutError, match=r"not approved within 0\.5 s"):
        comfy.login(timeout=0.5)


def test_interrupting_ends_the_wait(comfy, meanwhile):
    def interrupt(_):
        time.sleep(1)  # the request has ended: Python drops an interruption of a finalizer
        _thread.interrupt_main()

    meanwhile(interrupt)
    with pytest.raises(KeyboardInterrupt):
        comfy.login(timeout=60)


def test_an_invalid_timeout_is_refused(comfy, cloud):
    cloud.seen.clear()
    with pytest.raises(InvalidRequestError, match="timeout: must be a positive number"):
        comfy.login(timeout=0)
    assert cloud.seen == []


def test_the_link_can_be_clicked_and_holds_no_markup_of_others():
    link = SignInLink('https://www.comfydeploy.com/auth/request/1?a="><script>')
    html = link._repr_html_()
    assert re.match(r'<a href="https://www\.comfydeploy\.com/auth/request/1\?a=&quot;', html)
    assert "<script>" not in html
    link.update("signed in as <b>")
    assert "signed in as &lt;b&gt;" in link._repr_html_()
