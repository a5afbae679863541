"""How the names of uploaded files are changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.files.uploads import numbered, safe_filename, safe_subfolder


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.png", "a.png"),
        ("Bild mit Spaß (1).png", "Bild mit Spaß (1).png"),
        ("猫 🐈\u200d⬛.webp", "猫 🐈\u200d⬛.webp"),
        ("../x.png", "x.png"),
        ("/etc/passwd", "passwd"),
        ("C:\\Users\\me\\x.png", "x.png"),
        ("..\\..\\x.png", "x.png"),
        (".bashrc", "bashrc"),
        ("...x", "x"),
        (" x.png. ", "x.png"),
        ("a%2Fb.png", "a%2Fb.png"),
        ("CON", "_CON"),
        ("nul.png", "_nul.png"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("console.png", "console.png"),
        ("~", "~"),
        ("-rf", "-rf"),
    ],
)
def test_names_are_kept_or_made_safe(given, kept):
    assert safe_filename(given) == kept


@pytest.mark.parametrize("name", ["", " ", ".", "..", "../", "a/", "\\", "a\0.png", "a\nb", "\x7f"])
def test_names_that_cannot_be_made_safe_are_refused(name):
    with pytest.raises(InvalidRequestError) as caught:
        safe_filename(name, field="filename")
    assert caught.value.details["field"] == "filename"


def test_long_names_are_shortened_before_the_extension():
    name = safe_filename("é" * 300 + ".safetensors")
    assert len(name.encode()) <= 255
    assert name.startswith("é" * 100)
    assert name.endswith("é.safetensors")
    again = numbered(name, 12)
    assert len(again.encode()) <= 255
    assert again.endswith("é (12).safetensors")
    assert len(safe_filename("a." + "b" * 400)) == 255


def test_numbers_are_added_before_the_extension():
    assert numbered("a.png", 0) == "a.png"
    assert numbered("a.png", 1) == "a (1).png"
    assert numbered("a.tar.gz", 2) == "a.tar (2).gz"
    assert numbered("README", 3) == "README (3)"


@given(st.text())
def test_a_safe_name_is_one_visible_part_of_a_path(name):
    try:
        safe = safe_filename(name)
    except (InvalidRequestError, UnicodeEncodeError):
        return
    assert safe
    assert "/" not in safe
    assert "\\" not in safe
    assert not safe.startswith(".")
    assert len(safe.encode()) <= 255
    assert safe_filename(safe) == safe


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        (".", ""),
        ("a", "a"),
        ("a/b/", "a/b"),
        ("a\\b", "a/b"),
        ("a//b/../c", "a/c"),
        ("./猫", "猫"),
    ],
)
def test_subfolders(given, kept):
    assert safe_subfolder(given) == kept
