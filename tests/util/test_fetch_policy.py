"""Which downloads are allowed if ``COMFYDEPLOY_OFFLINE`` is set."""

from comfydeploy_jupyter.comfyui import install
from comfydeploy_jupyter.extension import ComfyDeploy
from comfydeploy_jupyter.util.system import FetchPolicy


def test_environment_decides(monkeypatch):
    for text, offline in (("1", True), ("Yes", True), ("0", False), ("", False)):
        monkeypatch.setenv("COMFYDEPLOY_OFFLINE", text)
        assert FetchPolicy.from_environment().offline is ComfyDeploy().offline is offline


def test_installer_fetches_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COMFYDEPLOY_OFFLINE", "1")
    assert install.main(["--path", str(tmp_path / "ComfyUI")]) == 1
    assert "the setting `offline`" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
