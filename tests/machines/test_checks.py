"""Valid and invalid settings of machines."""

import asyncio

import pytest

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.machines import settings
from comfydeploy_jupyter.util.secrets import masked_environment
from tests.helpers.comfyui import free_port


def test_arguments_are_split_without_a_shell():
    assert settings.split_arguments("--lowvram --port '81 88'") == ("--lowvram", "--port", "81 88")
    assert settings.split_arguments(["--output-directory", "/a b"]) == (
        "--output-directory",
        "/a b",
    )
    assert settings.split_arguments([]) == ()


@pytest.mark.parametrize(
    "arguments",
    [
        "--listen; rm -rf ~",
        "--port $(id)",
        "--port `id`",
        "--lowvram && curl http://x",
        "--lowvram | tee x",
        "--lowvram > /etc/passwd",
        ["--port", "8188\n--listen"],
        ["--port", "81\0"],
        "--port '81",
        "main2.py",
        ["--lowvram", ""],
        ["--lowvram"] * 500,
        ["--" + "x" * 5000],
    ],
)
def test_shell_syntax_and_malformed_arguments_are_refused(arguments):
    with pytest.raises(InvalidRequestError) as caught:
        settings.split_arguments(arguments)
    assert caught.value.details["field"] == "launch_args"


def test_options_are_those_of_the_comfyui(installed_comfyui):
    path, _ = installed_comfyui
    good = ["--lowvram", "--reserve-vram", "-1.5", "--preview-method", "auto", "--fast", "fp16"]
    settings.check_options(good, path)
    settings.check_options(["--disable-all-custom"], path)  # as argparse has it
    for wrong in (["--no-such-option"], ["--lowvram", "--nope=1"]):
        with pytest.raises(InvalidRequestError, match="has no option"):
            settings.check_options(wrong, path)
    with pytest.raises(InvalidRequestError, match="launch_args"):
        settings.check_options(["--output-directory"], path)
    settings.check_options(["--port", "8188"], path)
    for wrong in (["--port", "65536"], ["--port=0"], ["--port", "http"], ["--port"]):
        with pytest.raises(InvalidRequestError, match=r"--port .* is not a port"):
            settings.check_options(wrong, path)


def test_folders_and_interpreters(installed_comfyui, tmp_path):
    path, python = installed_comfyui
    assert settings.check_tree(str(path)) == path
    settings.check_python(str(python))
    for wrong in (str(tmp_path), "relative/ComfyUI", "/a\0b", "~/no-such-ComfyUI"):
        with pytest.raises(InvalidRequestError, match="comfyui_path: "):
            settings.check_tree(wrong)
    for wrong in (str(tmp_path), "/no/such/python", "/a\0b"):
        with pytest.raises(InvalidRequestError, match="comfyui_python: "):
            settings.check_python(wrong)


def test_environments():
    assert settings.check_environment({"A": "x", "B": 1, "C": None}) == {
        "A": "x",
        "B": "1",
        "C": None,
    }
    for wrong in ({"A B": "x"}, {"A=": "x"}, {"": "x"}, {"A": "x\0"}):
        with pytest.raises(InvalidRequestError, match="env: "):
            settings.check_environment(wrong)
    shown = masked_environment({"HF_TOKEN": "s", "MYSQL_PWD": "s", "KEYBOARD": "us", "A": "1"})
    assert shown == {"HF_TOKEN": "***", "MYSQL_PWD": "***", "KEYBOARD": "us", "A": "1"}


async def not_comfyui(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def test_addresses(comfyui):
    assert await settings.check_address(f"{comfyui.url}/") == comfyui.url
    down = f"http://127.0.0.1:{free_port()}"
    assert await settings.check_address(down) == down
    async with await asyncio.start_server(not_comfyui, "127.0.0.1", 0) as server:
        other = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        wrong_ones = f"{comfyui.url}/?a=1", f"{comfyui.url}#x", "http://me:secret@127.0.0.1:1"
        for wrong in (*wrong_ones, other):
            with pytest.raises(InvalidRequestError, match="comfyui_url: ") as caught:
                await settings.check_address(wrong)
        assert "is not ComfyUI: status 404" in caught.value.message
