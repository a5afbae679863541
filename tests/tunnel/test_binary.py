"""Where cloudflared is found, and its download from a small release server."""

import asyncio
import hashlib
import io
import subprocess
import tarfile

import pytest
from aiohttp import web

from comfydeploy_jupyter.errors import OfflineError, TunnelFailedError
from comfydeploy_jupyter.extension import ComfyDeploy
from comfydeploy_jupyter.tunnel.cloudflared import Binary, _Asset, _Part, asset_name

PROGRAM = b"#!/bin/sh\necho cloudflared version 2026.8.2\n"


class ReleaseServer:
    """Describes a release like GitHub's API, and sends its files."""

    def __init__(self):
        self.content = PROGRAM
        self.digest = f"sha256:{hashlib.sha256(PROGRAM).hexdigest()}"
        self.notes = ""
        self.asset = asset_name()
        self.downloads = 0
        self.hang_up = False

    async def open(self):
        app = web.Application()
        app.router.add_get("/latest", self._release)
        app.router.add_get("/files/{name}", self._file)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/latest"

    async def close(self):
        await self._runner.cleanup()

    async def _release(self, request):
        asset = {
            "name": self.asset,
            "browser_download_url": f"{self.url.rpartition('/')[0]}/files/{self.asset}",
            "digest": self.digest,
        }
        return web.json_response({"tag_name": "1", "body": self.notes, "assets": [asset]})

    async def _file(self, request):
        self.downloads += 1
        if self.hang_up:
            answer = web.StreamResponse(headers={"Content-Length": str(len(self.content))})
            await answer.prepare(request)
            await answer.write(self.content[:5])
            request.transport.abort()
            return answer
        return web.Response(body=self.content)


@pytest.fixture
def release(jp_asyncio_loop, monkeypatch, tmp_path):
    # a cloudflared of this machine's own must not be found
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = ReleaseServer()
    jp_asyncio_loop.run_until_complete(found.open())
    yield found
    jp_asyncio_loop.run_until_complete(found.close())


def place(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PROGRAM)
    path.chmod(0o755)
    return path


def output_of(program):
    return subprocess.check_output([program], text=True)


def names_in(folder):
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def binary_in(cache, **settings):
    return Binary(cache, ComfyDeploy(**settings))


async def refusal(binary):
    with pytest.raises(TunnelFailedError) as refused:
        await binary.path()
    assert "cloudflared_download" in refused.value.extra["hint"]
    return {**refused.value.details, "message": refused.value.message}


async def test_the_order_is_setting_then_path_then_cache(release, tmp_path):
    cache = tmp_path / "cache"
    binary = binary_in(cache)
    assert (await refusal(binary))["reason"] == "no_binary"
    cached = place(cache / "cloudflared")
    assert await binary.path() == cached
    on_path = place(tmp_path / "bin" / "cloudflared")
    assert await binary.path() == on_path
    mine = place(tmp_path / "mine" / "my-cloudflared")
    assert await binary_in(cache, cloudflared_path=str(mine)).path() == mine


async def test_a_configured_path_without_a_binary_is_not_replaced(release, tmp_path):
    place(tmp_path / "bin" / "cloudflared")
    binary = binary_in(tmp_path / "cache", cloudflared_path="/no/such", cloudflared_download=True)
    found = await refusal(binary)
    assert (found["reason"], "'/no/such'" in found["message"]) == ("no_binary", True)
    assert release.downloads == 0


async def test_download(release, tmp_path):
    cache = tmp_path / "cache"
    binary = binary_in(cache, cloudflared_download=True, cloudflared_release_url=release.url)
    paths = await asyncio.gather(*(binary.path() for _ in range(4)))
    assert {*paths} == {cache / "cloudflared"}
    assert "2026.8.2" in output_of(paths[0])
    assert (release.downloads, names_in(cache)) == (1, ["cloudflared"])
    assert await binary_in(cache, cloudflared_release_url="http://127.0.0.1:9").path() == paths[0]


async def test_consent_is_valid_for_one_download(release, tmp_path):
    cache = tmp_path / "cache"
    binary = binary_in(cache, cloudflared_release_url=release.url)
    assert (await refusal(binary))["can_download"] is True
    assert release.downloads == 0
    assert await binary.path(download=True) == cache / "cloudflared"
    assert release.downloads == 1
    offline = binary_in(tmp_path / "other", cloudflared_release_url=release.url, offline=True)
    assert "can_download" not in await refusal(offline)
    with pytest.raises(OfflineError):
        await offline.path(download=True)
    assert release.downloads == 1


async def test_checksum_in_the_notes_of_an_older_release(release, tmp_path):
    release.digest = None
    digest = hashlib.sha256(PROGRAM).hexdigest()
    release.notes = f"### SHA256 Checksums:\n```\nother: {'0' * 64}\n{release.asset}: {digest}\n```"
    binary = binary_in(
        tmp_path / "cache", cloudflared_download=True, cloudflared_release_url=release.url
    )
    assert await binary.path() == tmp_path / "cache" / "cloudflared"


@pytest.mark.parametrize("fault", ["other content", "no checksum", "hang up", "no file", "away"])
async def test_a_bad_download_leaves_no_file(release, tmp_path, fault):
    url = release.url
    if fault == "other content":
        release.content = PROGRAM + b"rm -rf /"
    elif fault == "no checksum":
        release.digest = None
    elif fault == "hang up":
        release.hang_up = True
    elif fault == "no file":
        release.asset = "cloudflared-amiga"
    else:
        url = "http://127.0.0.1:9/latest"
    cache = tmp_path / "cache"
    binary = binary_in(cache, cloudflared_download=True, cloudflared_release_url=url)
    found = await refusal(binary)
    assert found["reason"] == "download_failed"
    assert names_in(cache) == []
    if fault == "other content":
        assert "SHA-256" in found["message"]


def test_archives_are_unpacked(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("cloudflared")
        member.size = len(PROGRAM)
        archive.addfile(member, io.BytesIO(PROGRAM))
    content = packed.getvalue()
    part = _Part(tmp_path)
    part.write(content)
    asset = _Asset("cloudflared-darwin-arm64.tgz", "", hashlib.sha256(content).hexdigest())
    program = part.install(asset, tmp_path / "cloudflared")
    part.close()
    assert "2026.8.2" in output_of(program)
    assert names_in(tmp_path) == ["cloudflared"]


def test_names_of_the_release():
    assert asset_name("linux", "x86_64") == "cloudflared-linux-amd64"
    assert asset_name("linux", "aarch64") == "cloudflared-linux-arm64"
    assert asset_name("darwin", "arm64") == "cloudflared-darwin-arm64.tgz"
    with pytest.raises(TunnelFailedError):
        asset_name("linux", "sparc")
