"""Connections to public addresses only, and downloads that use them."""

import socket

import pytest

from comfydeploy_jupyter.transfers.downloads import ModelSites, RemoteFile
from comfydeploy_jupyter.transfers.http import (
    PublicConnector,
    TransferError,
    new_session,
    objection,
    request,
)
from comfydeploy_jupyter.util.system import FetchPolicy


@pytest.mark.parametrize(
    "url",
    [
        "https://huggingface.co/o/r/resolve/main/a",
        "http://8.8.8.8/a",
        "http://[2001:4860:4860::8888]/a",
        "https://localhost.example.com/a",
        "http://mirror.lan:8080/a",
    ],
)
def test_links_that_may_be_public(url):
    assert objection(url, ["http://mirror.lan:8080"]) is None


@pytest.mark.parametrize(
    "url",
    [
        *("http://2130706433:1/a", "http://127.1:1/a", "http://[::1]:1/a", "http://0.0.0.0:1/a"),
        *("http://[::ffff:10.0.0.1]/a", "http://[64:ff9b::a00:1]/a", "http://[fd00::1]/a"),
        *("http://10.1.2.3/a", "http://192.168.0.9/a", "http://172.16.5.4/a"),
        *("http://169.254.169.254/a", "http://metadata.google.internal/a"),
        "http://168.63.129.16/machine",
        "http://100.100.100.200/latest",
        "http://[2002:7f00:1::]/a",
        "http://[fe80::1]/a",
        "http://224.0.0.1/a",
        "http://LOCALHOST./a",
        "http://nas.local/a",
        "http://127.0.0.1:8081/a",
        "https://127.0.0.1/a",
        "http://example.com /a",
        "javascript:alert(1)",
        "//example.com/a",
        "http://example.com:99999/a",
    ],
)
def test_links_to_private_or_invalid_addresses(url):
    assert objection(url, ["http://127.0.0.1:8080"]) is not None


async def get(session, url):
    async with request(session, "GET", url, what="the site", redirects=True):
        pass


async def test_a_connection_is_checked_by_its_address(bare_service):
    bare_service.files["a"] = b"a"
    port = bare_service.url.rsplit(":", 1)[1]
    # The last one leads inside, although nothing in the text of the link says so.
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", socket.gethostname()):
        async with new_session(PublicConnector()) as session:
            with pytest.raises(TransferError, match="inside this machine") as refused:
                await get(session, f"http://{host}:{port}/files/a")
        assert not refused.value.again
    assert not bare_service.sent


async def test_an_allowed_site_may_be_private_but_not_its_redirects(bare_service):
    bare_service.files["a"] = b"a"
    bare_service.pages["here"] = (302, {"Location": f"{bare_service.url}/files/a"})
    bare_service.pages["away"] = (302, {"Location": "http://127.0.0.1:9/files/a"})
    async with new_session(PublicConnector([bare_service.url])) as session:
        await get(session, f"{bare_service.url}/here")
        with pytest.raises(TransferError, match="inside this machine"):
            await get(session, f"{bare_service.url}/away")
    assert len(bare_service.sent["a"]) == 1


async def test_download_stays_untrusted_over_restarts_and_retries(make_harness, bare_service):
    bare_service.files["a.safetensors"] = b"a"
    harness = await make_harness()
    file = RemoteFile(f"{bare_service.url}/files/a.safetensors", "a.safetensors")
    target = harness.checkpoints / "a.safetensors"
    record = await harness.transfers.download(file, target, None, untrusted=True)
    record = await harness.transfers.queue.wait(record)
    assert (record.state, record.attempts) == ("failed", 1)
    await harness.reopen()
    (again,) = await harness.transfers.retry(transfer_id=record.id, token=None)
    assert (await harness.transfers.queue.wait(again)).state == "failed"
    assert not bare_service.sent
    # The user's own word counts, and is not taken for that of the file.
    mine = await harness.transfers.download(file, target, None)
    assert (await harness.transfers.queue.wait(mine)).state == "done"


async def test_offline_mode_ends_transfers_in_progress(make_harness, bare_service):
    bare_service.files["a.safetensors"] = b"a" * 2_000_000
    bare_service.store_delay = 0.05
    harness = await make_harness()
    file = RemoteFile(f"{bare_service.url}/files/a.safetensors", "a.safetensors")
    record = await harness.transfers.download(file, harness.checkpoints / "a.safetensors", None)
    await harness.until(lambda: record.sent > 0)
    harness._options["fetching"] = FetchPolicy(offline=True)
    await harness.reopen()
    record = await harness.transfers.queue.get(record.id)
    record = await harness.transfers.queue.wait(record)
    assert record.state == "failed"
    assert "`offline`" in record.error


def test_links_to_the_sites_go_to_the_mirrors():
    sites = ModelSites("http://hf.lan", "http://civitai.lan")
    at = sites.at_mirror
    assert at("https://huggingface.co/o/r/blob/main/a") == "http://hf.lan/o/r/resolve/main/a"
    assert at("https://huggingface.co/api/x") == "http://hf.lan/api/x"
    assert at("http://hf.lan/o/r/resolve/main/a") == "http://hf.lan/o/r/resolve/main/a"
    assert at("https://civitai.com/api/download/models/1?type=VAE") == (
        "http://civitai.lan/api/download/models/1?type=VAE"
    )
    assert at("https://example.com/a") == "https://example.com/a"
    assert sites.is_page("https://civitai.com/models/12?modelVersionId=3")
    assert not sites.is_page("https://civitai.com/api/download/models/1")
