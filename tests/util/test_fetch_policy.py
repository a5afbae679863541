"""Which downloads are allowed if ``COMFYDEPLOY_OFFLINE`` is set."""

import pytest

from comfydeploy_jupyter.comfyui import install
from comfydeploy_jupyter.errors import OfflineError
from comfydeploy_jupyter.extension import ComfyDeploy
from comfydeploy_jupyter.util.system import FetchPolicy


@pytest.mark.parametrize(
    ("text", "offline"), [("1", True), ("Yes", True), ("0", False), ("", False)]
)
def test_environment_decides(monkeypatch, text, offline):
    monkeypatch.setenv("COMFYDEPLOY_OFFLINE", text)
    assert FetchPolicy.from_environment().offline is offline
    assert ComfyDeploy().offline is offline


def test_error_names_the_setting():
    with pytest.raises(OfflineError, match=r"a\.safetensors is not fetched: the setting `offline`"):
        FetchPolicy(offline=True).require("a.safetensors")
    FetchPolicy().require("a.safetensors")


def test_installer_fetches_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COMFYDEPLOY_OFFLINE", "1")
    assert install.main(["--path", str(tmp_path / "ComfyUI")]) == 1
    assert "the setting `offline`" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
