"""Small copies of pictures of all kinds, also of damaged ones."""

import io
import struct
import zlib

import pytest
from PIL import Image

from comfydeploy_jupyter.errors import InvalidRequestError
from comfydeploy_jupyter.files import thumbnails
from comfydeploy_jupyter.files.thumbnails import thumbnail


def encoded(image, file_format, **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def small(content, side=64):
    return Image.open(io.BytesIO(thumbnail(io.BytesIO(content), side)))


def exr(path, **channels):
    openexr = pytest.importorskip("OpenEXR", reason="wheels of OpenEXR are not there for all")
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    with openexr.File(header, channels) as file:
        file.write(str(path / "made.exr"))
    return (path / "made.exr").read_bytes()


def test_an_exr_file_is_shown_as_the_screen_would(tmp_path):
    np = pytest.importorskip("numpy")
    light = np.full((100, 200, 3), (1.0, 0.2140, 0.0), dtype=np.float32)
    image = small(exr(tmp_path, RGB=light))
    assert image.size == (64, 32)
    for found, expected in zip(image.convert("RGB").getpixel((30, 15)), (255, 128, 0), strict=True):
        assert abs(found - expected) < 12


def test_values_brighter_than_white_stay_distinguishable(tmp_path):
    np = pytest.importorskip("numpy")
    light = np.full((40, 80, 3), 8.0, dtype=np.float32)
    light[:, :40] = 2.0
    light[0, 0] = np.nan
    light[0, 1] = np.inf
    image = small(exr(tmp_path, RGB=light)).convert("RGB")
    dark, bright = image.getpixel((10, 16))[0], image.getpixel((50, 16))[0]
    assert 120 < dark < bright - 20


@pytest.mark.parametrize("names", [("Y",), ("Z",), ("R", "G", "B", "A"), ("depth.V",)])
def test_exr_files_with_other_channels(tmp_path, names):
    np = pytest.importorskip("numpy")
    half = np.full((8, 8), 0.5, dtype=np.float16)
    assert small(exr(tmp_path, **dict.fromkeys(names, half))).size == (8, 8)


def test_an_exr_file_needs_its_package(monkeypatch):
    monkeypatch.setattr(thumbnails, "find_spec", lambda name: None)
    with pytest.raises(InvalidRequestError, match="package OpenEXR is installed"):
        thumbnail(io.BytesIO(thumbnails.EXR_MAGIC + b"x"), 64)


def png_of(width, height):
    """Return a small file whose header claims very many pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 2 +X 2\n" + bytes(16),
        thumbnails.EXR_MAGIC,
        thumbnails.EXR_MAGIC + b"\x02\0\0\0" + bytes(200),
        thumbnails.EXR_MAGIC + bytes(range(256)) * 8,
        png_of(30_000, 30_000),
        png_of(200, 200),
        png_of(0, 0),
        encoded(Image.new("RGB", (300, 300), "red"), "PNG")[:200],
        encoded(Image.new("RGB", (300, 300), "red"), "JPEG")[:-400],
        encoded(Image.new("RGB", (300, 300), "red"), "WEBP")[:-40],
        encoded(Image.new("RGB", (300, 300), "red"), "TIFF")[:-90_000],
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"glTF" + bytes(100),
    ],
)
def test_incomplete_pictures_are_refused(content):
    with pytest.raises(InvalidRequestError) as caught:
        thumbnail(io.BytesIO(content), 64)
    assert caught.value.details["field"] == "thumbnail"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_of_picture_has_a_thumbnail(mode):
    assert small(encoded(Image.new(mode, (200, 100)), "TIFF")).size == (64, 32)


def test_numbers_beyond_eight_bits_are_scaled():
    deep = Image.new("I;16", (40, 40), 0x8000)
    real = Image.new("F", (40, 40), 0.5)
    for content in (encoded(deep, "PNG"), encoded(deep, "TIFF"), encoded(real, "TIFF")):
        assert abs(small(content).convert("L").getpixel((5, 5)) - 128) < 4
