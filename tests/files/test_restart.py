"""A Jupyter server that is killed while it receives a file, and the next server."""

import threading

import requests

from comfydeploy_jupyter.files.uploads import STAGING_PREFIX
from tests.helpers.waiting import until

MIB = 1024 * 1024


def test_a_killed_server_leaves_no_part_of_an_upload(start_jupyter, tmp_path):
    folder = tmp_path / "comfyui"
    (folder / "input").mkdir(parents=True)
    (folder / "main.py").touch()
    settings = {
        "comfyui_path": str(folder),
        "comfyui_url": "http://127.0.0.1:9",  # there need be no ComfyUI for this
        "data_dir": str(tmp_path / "data"),
    }
    jupyter = start_jupyter(ComfyDeploy=settings)
    killed = threading.Event()

    def body():
        yield b"--x\r\n"
        yield b'Content-Disposition: form-data; name="file"; filename="large.bin"\r\n\r\n'
        for _ in range(16):
            yield b"\0" * MIB
        killed.wait(60)

    def send():
        headers = {
            "Authorization": f"token {jupyter.token}",
            "Content-Type": "multipart/form-data; boundary=x",
        }
        try:
            requests.post(
                f"{jupyter.url}comfyui-deploy/upload-file", data=body(), headers=headers, timeout=60
            )
        except requests.RequestException:
            return

    def arriving():
        return sum(file.stat().st_size for file in folder.glob(f"input/{STAGING_PREFIX}*/*"))

    sending = threading.Thread(target=send)
    sending.start()
    until(lambda: arriving() >= 8 * MIB)
    jupyter.kill()
    killed.set()
    sending.join(60)
    assert arriving() >= 8 * MIB
    jupyter.start()
    until(lambda: not list((folder / "input").iterdir()))
