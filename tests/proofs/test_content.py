"""The hashes of decoded contents, and how two of them are compared."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfydeploy_jupyter.proofs.content import (
    UndecodedError,
    compare,
    content_of,
    difference_picture,
)


def noise(mode: str = "RGB", size: tuple[int, int] = (31, 17), seed: int = 1) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, size, random.Random(seed).randbytes(size[0] * size[1] * channels))


def saved(image: Image.Image, kind: str = "PNG", **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def test_metadata_compression_and_format_do_not_matter():
    picture, info = noise(), PngInfo()
    info.add_text("prompt", '{"1": {}}')
    plain = content_of(saved(picture), "a.png")
    assert (plain.kind, plain.about) == ("image", "31 x 17 RGBA")
    assert content_of(saved(picture, pnginfo=info, compress_level=9), "b.PNG") == plain
    assert content_of(saved(picture, "WEBP", lossless=True, exact=True), "c.webp") == plain
    assert content_of(saved(picture.convert("RGBA")), "d.png") == plain
    assert content_of(saved(picture, "BMP"), "e.bmp") == plain


def test_each_pixel_and_the_shape_count():
    picture = noise("L")
    first = content_of(saved(picture), "a.png")
    for x, y in ((0, 0), (30, 16)):
        other = picture.copy()
        other.putpixel((x, y), picture.getpixel((x, y)) ^ 1)
        assert content_of(saved(other), "a.png").sha256 != first.sha256
    turned = Image.frombytes("L", (17, 31), picture.tobytes())
    assert content_of(saved(turned), "a.png").sha256 != first.sha256


def test_deep_pictures_keep_their_depth():
    deep = Image.frombytes("I;16", (4, 4), random.Random(2).randbytes(32))
    one = content_of(saved(deep), "a.png")
    changed = bytearray(deep.tobytes())
    changed[0] ^= 1  # the lowest bit of the first pixel
    other = Image.frombytes("I;16", (4, 4), bytes(changed))
    assert one.about == "4 x 4 I"
    assert content_of(saved(other), "a.png").sha256 != one.sha256
    found = compare(saved(deep), saved(other), "a.png")
    assert found == {"share": 1 / 16, "largest": 1 / 65535, "mean": pytest.approx(1 / 16 / 65535)}


def test_animations_have_all_their_pictures_and_times():
    pictures = [noise("L", seed=number) for number in range(3)]
    options = {"save_all": True, "append_images": pictures[1:]}
    one = content_of(saved(pictures[0], "GIF", duration=100, **options), "a.gif")
    assert one.kind == "animation"
    slower = saved(pictures[0], "GIF", duration=200, **options)
    assert content_of(slower, "a.gif").sha256 != one.sha256
    other = saved(pictures[0], "GIF", duration=100, save_all=True, append_images=pictures[2:0:-1])
    assert content_of(other, "a.gif").sha256 != one.sha256
    assert content_of(saved(pictures[0], "GIF"), "a.gif").kind == "image"


def test_of_animations_all_pictures_are_compared():
    def animation(*pixels: tuple[int, int]) -> io.BytesIO:
        pictures = [Image.new("RGBA", (10, 10), (0, number, 0)) for number in range(3)]
        for number, at in enumerate(pixels):
            pictures[number].putpixel(at, (255, 255, 255))
        return saved(pictures[0], "PNG", save_all=True, append_images=pictures[1:])

    one, other = animation((0, 0), (1, 1), (2, 2)), animation((0, 0), (1, 2), (2, 2))
    found = compare(one, other, "a.png")
    assert found["share"] == pytest.approx(2 / 300)
    assert found["largest"] == 1
    with Image.open(io.BytesIO(difference_picture(one, other))) as shown:
        assert [n for n, value in enumerate(shown.convert("L").tobytes()) if value] == [11, 21]
    still = saved(Image.open(one))
    assert compare(one, still, "a.png") == {"reason": "one of them has more pictures"}


def test_texts_count_as_they_are():
    assert content_of(io.BytesIO(b"a\n"), "a.txt") != content_of(io.BytesIO(b"a\r\n"), "a.txt")
    found = compare(io.BytesIO(b"the fox"), io.BytesIO(b"the box"), "a.txt")
    assert found == {"reason": "the texts are equal up to character 4"}
    with pytest.raises(UndecodedError, match="UTF-8"):
        content_of(io.BytesIO(b"\xff"), "a.txt")


@pytest.mark.parametrize("body", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_damaged_pictures_are_told(body):
    with pytest.raises(UndecodedError, match="complete picture"):
        content_of(io.BytesIO(body), "a.png")


def test_half_a_picture_is_told():
    body = saved(noise(size=(200, 200))).getvalue()
    with pytest.raises(UndecodedError, match="complete picture"):
        content_of(io.BytesIO(body[: len(body) // 2]), "a.png")


def test_other_types_are_compared_as_they_are():
    with pytest.raises(UndecodedError, match="as they are"):
        content_of(io.BytesIO(b"glTF"), "a.glb")


def test_a_difference_is_measured_and_shown():
    white = Image.new("RGB", (10, 10), "white")
    other = white.copy()
    other.putpixel((3, 4), (255, 255, 204))
    found = compare(saved(white), saved(other), "a.png")
    assert found["share"] == 0.01
    assert found["largest"] == pytest.approx(51 / 255)
    assert found["mean"] == pytest.approx(51 / 255 / 400)
    shown = Image.open(io.BytesIO(difference_picture(saved(white), saved(other)))).convert("L")
    assert [n for n, value in enumerate(shown.tobytes()) if value] == [43]
    small = Image.new("RGB", (5, 10))
    assert "10 x 10 RGBA became 5 x 10" in compare(saved(white), saved(small), "a.png")["reason"]
