"""Output for terminals, which pipes, files and dumb terminals do not get."""

import base64
import io
import re
import uuid

import PIL.Image
import pytest

from comfydeploy_jupyter.client.text import Terminal, columns_of, cut, duration, text_table
from tests.helpers.jupyter import run_in_terminal

ADDRESS = "http://h/comfyui-deploy/view?filename=a.png"
SHOW = """
import sys, uuid
import comfydeploy_jupyter
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance(simple_prompt=True)
shell.user_ns["token"] = sys.argv[1]
shell.run_cell('''
import comfydeploy_jupyter
graph = {
    "1": {"class_type": "EmptyImage",
          "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0xFF0000}},
    "2": {"class_type": "SaveImage",
          "inputs": {"images": ["1", 0], "filename_prefix": f"red{token}"}},
    "3": {"class_type": "TestText",
          "inputs": {"text": "\\\\x1b]0;owned\\\\x07", "anything": ["1", 0]}},
}
comfydeploy_jupyter.connect(start=False).run(graph)
''')
"""


class Stream(io.StringIO):
    def __init__(self, encoding="utf-8", *, tty=True):
        super().__init__()
        self._encoding, self._tty = encoding, tty

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return self._tty


def terminal(encoding="utf-8", **environ):
    return Terminal(Stream(encoding), environ)


@pytest.mark.parametrize(
    ("environ", "knows"),
    [
        ({"TERM": "xterm-256color"}, False),
        ({"TERM": "xterm-256color", "VTE_VERSION": "6800"}, True),
        ({"TERM": "xterm-256color", "VTE_VERSION": "4800"}, False),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode"}, True),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, False),
        ({"TERM": "xterm-kitty"}, True),
        ({"TERM": "tmux-256color", "VTE_VERSION": "6800"}, False),
        ({"WT_SESSION": "x"}, True),
    ],
)
def test_links_if_the_terminal_supports_them(environ, knows):
    link = terminal(**environ).link("a.png", ADDRESS)
    assert link == (f"\x1b]8;;{ADDRESS}\x1b\\a.png\x1b]8;;\x1b\\" if knows else "a.png")


def test_control_characters_in_links_are_escaped():
    link = terminal(TERM="xterm-kitty").link("a\x1b[2J\n\x9b.png", "http://h/\x1b]0;x\x07 ü")
    assert link == "\x1b]8;;http://h/%1B]0;x%07%20%C3%BC\x1b\\a\\x1b[2J\\n\\x9b.png\x1b]8;;\x1b\\"


@pytest.mark.parametrize(
    ("environ", "start"),
    [
        ({"TERM": "xterm-256color"}, "\x1b[38;5;196;48;5;196m▀"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "\x1b[38;2;255;0;0;48;2;255;0;0m▀"),
        ({"TERM": "xterm-kitty"}, "\x1b_Ga=T,f=100,q=2,c=40,r=20,m=0;"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "\x1b[38;5;196"),
        ({"TERM": "vt100"}, None),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, None),
    ],
)
def test_pictures_in_the_format_of_the_terminal(environ, start):
    picture = terminal(**environ).picture(PIL.Image.new("RGB", (80, 80), "red"))
    assert picture is None if start is None else picture and picture.startswith(start)


def test_half_blocks_show_two_pixels_each():
    image = PIL.Image.new("RGBA", (1, 40), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (0, 0, 1, 1))
    shown = terminal(TERM="xterm", COLORTERM="truecolor").picture(image)
    lines = shown.splitlines()
    assert len(lines) == 20
    assert lines[0] == "\x1b[38;2;255;255;255;48;2;0;0;0m▀\x1b[0m"
    assert terminal("ascii", TERM="xterm-256color").picture(image) is None


def test_kitty_gets_a_png_in_chunks():
    noise = PIL.Image.effect_noise((96, 96), 90)
    shown = terminal(TERM="xterm-kitty").picture(noise)
    assert shown is not None
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", shown)
    settings = [each.removeprefix("a=T,f=100,q=2,c=40,r=20,") for each, _ in chunks]
    assert settings == ["m=1"] * (len(chunks) - 1) + ["m=0"]
    assert all("a=T" not in each for each, _ in chunks[1:])
    assert len(chunks) > 1
    assert all(len(data) <= 4096 for _, data in chunks)
    content = base64.b64decode("".join(data for _, data in chunks))
    assert PIL.Image.open(io.BytesIO(content)).size == (96, 96)


def test_only_streams_with_a_terminal_count_as_terminals(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert Terminal.of(Stream()) is not None
    assert Terminal.of(Stream(tty=False)) is Terminal.of(None) is None
    for term in ("dumb", ""):
        monkeypatch.setenv("TERM", term)
        assert Terminal.of(Stream()) is None


def test_columns_and_durations():
    assert [columns_of(text) for text in ("abc", "日本", "e\u0301")] == [3, 4, 1]
    assert cut("abcdef", 4) == "abc…"
    assert columns_of(cut("日本語日本語", 5)) <= 5
    assert cut("abc", 3) == "abc"
    assert text_table([("日本", "x"), ("abc", "y")]) == "日本  x\nabc   y"
    shown = [duration(seconds) for seconds in (0, 0.294, 12.34, 59.94, 59.96, 65, 7380)]
    assert shown == [
        *("0.00 s", "0.29 s", "12.3 s", "59.9 s", "1 min 00 s", "1 min 05 s", "2 h 03 min"),
    ]


def test_a_result_in_ipython_shows_its_picture_and_names_its_file(jupyter, tmp_path):
    name = uuid.uuid4().hex

    def shown(**environ):
        given = {"jupyter": jupyter, "folder": tmp_path, "whole": True, **environ}
        return run_in_terminal(SHOW, name, **given)[1]

    rich = shown(TERM="xterm-256color", VTE_VERSION="6800")
    assert re.search(r"█{20} 100% +\d+\.\d s  Success: .*red\w+_00001_\.png.*\n", rich)
    assert "\x1b[38;5;196;48;5;196m▀" in rich
    assert re.search(r"\x1b\]8;;http://\S+/comfyui-deploy/view\?\S+\x1b\\red", rich)
    assert jupyter.token not in rich
    assert "\\x1b]0;owned\\x07" in rich
    assert "\x1b]0;" not in rich
    plain = shown(TERM="xterm", NO_COLOR="1")
    assert not re.search(r"\x1b(?!\[K)", plain), "nothing but the bar's own end of line"
    assert f"red{name}_00001_.png" in plain
