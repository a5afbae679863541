"""The extension in Jupyter: its settings and their documentation."""

import logging

import pytest
from traitlets import TraitError

from comfydeploy_jupyter.extension import ComfyDeploy, _key_of, _written_from, package_log


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("comfyui_url", "http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("launch_args", "--lowvram --dir '/a b'", ["--lowvram", "--dir", "/a b"]),
        ("autostart", "false", False),
        ("autostart", "1", True),
        ("comfyui_timeout", "2.5", 2.5),
        ("max_json_size", "2048", 2048),
    ],
)
def test_setting_from_the_environment(monkeypatch, name, text, value):
    monkeypatch.setenv(f"COMFYDEPLOY_{name.upper()}", text)
    assert getattr(ComfyDeploy(), name) == value


def test_a_key_is_one_line(monkeypatch):
    for name in ("api_key", "comfy_api_key", "huggingface_token", "civitai_token"):
        monkeypatch.setenv(f"COMFYDEPLOY_{name.upper()}", " sk-1\n")
        app = ComfyDeploy()
        assert getattr(app, name) == "sk-1"
        for wrong in ("sk\n1", "sk 1", "sk-\xfc"):
            with pytest.raises(TraitError, match=f"^{name} must be one line of ASCII text"):
                setattr(app, name, wrong)


def test_limits_of_runs_have_known_names():
    assert ComfyDeploy(keep_runs={"days": 3, "files": False}).keep_runs["days"] == 3.0
    with pytest.raises(TraitError, match=r"keep_runs.* 'number'.*'dayz'"):
        ComfyDeploy(keep_runs={"dayz": 3})


def test_a_wrong_key_of_the_environment_is_ignored(monkeypatch, caplog):
    monkeypatch.setattr(package_log, "propagate", True)
    monkeypatch.setenv("HF_TOKEN", "hf_1\n")
    assert _key_of("HF_TOKEN") == "hf_1"
    monkeypatch.setenv("HF_TOKEN", "hf\n1")
    assert _key_of("HF_TOKEN") is None
    assert "HF_TOKEN is ignored" in caplog.text
    monkeypatch.delenv("HF_TOKEN")
    assert _key_of("HF_TOKEN") is None


def test_lines_that_no_handler_of_jupyters_log_writes_are_not_made():
    log = logging.getLogger("jupyter-in-a-test.server")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    assert _written_from(log) == logging.DEBUG
    handlers = [logging.StreamHandler(), logging.StreamHandler()]
    for handler in handlers:
        handler.setLevel(logging.WARNING)
    log.addHandler(handlers[0])
    assert _written_from(log) == logging.WARNING
    log.propagate = True
    log.parent.addHandler(handlers[1])
    handlers[1].setLevel(logging.INFO)
    assert _written_from(log) <= logging.INFO
    log.setLevel(logging.ERROR)
    assert _written_from(log) == logging.ERROR


def test_configuration_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("COMFYDEPLOY_COMFYUI_URL", "http://from.environment")
    from traitlets.config import Config

    app = ComfyDeploy()
    app.update_config(Config({"ComfyDeploy": {"comfyui_url": "http://configured"}}))
    assert app.comfyui_url == "http://configured"


def test_every_setting_is_explained():
    settings = ComfyDeploy.class_own_traits(config=True)
    assert [name for name, trait in settings.items() if not trait.help] == []
