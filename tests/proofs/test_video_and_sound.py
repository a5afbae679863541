"""The hashes of decoded videos and sounds, of files that PyAV has made."""

from __future__ import annotations

import io
import random
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from comfydeploy_jupyter.proofs import content
from comfydeploy_jupyter.proofs.content import UndecodedError, content_of
from tests.helpers.graphs import node
from tests.helpers.selection import few
from tests.proofs.test_verify import complete, verified

if TYPE_CHECKING:
    from collections.abc import Sequence

av = pytest.importorskip("av", reason="PyAV is not installed", exc_type=ImportError)
SIZE = (64, 48)
SAMPLES = 3000


def picture(seed: int, blue: int = 0) -> Image.Image:
    """Return noise; ``blue`` changes one pixel of it."""
    found = Image.frombytes("RGB", SIZE, random.Random(seed).randbytes(SIZE[0] * SIZE[1] * 3))
    pixel = found.getpixel((63, 47))
    found.putpixel((63, 47), (*pixel[:2], pixel[2] ^ blue))
    return found


def noise() -> bytearray:
    """Return samples of two channels."""
    return bytearray(random.Random(1).randbytes(SAMPLES * 4))


def made(
    kind: str,
    *,
    codec: str = "",
    pixels: str = "bgr0",
    rate: Fraction | int = 24,
    pictures: Sequence[Image.Image] = (),
    sound: tuple[str, bytes | bytearray] | None = None,
    metadata: dict[str, str] | None = None,
) -> io.BytesIO:
    """Return a file with a video, a sound (its codec and samples), or both."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        container.metadata.update(metadata or {})
        video = voice = None
        if codec:
            video = container.add_stream(codec, rate=Fraction(rate))
            (video.width, video.height), video.pix_fmt = SIZE, pixels
        if sound:
            voice = container.add_stream(sound[0], rate=48000, layout="stereo")
        for each in pictures:
            container.mux(video.encode(av.VideoFrame.from_image(each)))
        if video is not None:
            container.mux(video.encode())
        if voice is not None:
            frame = av.AudioFrame("s16", "stereo", SAMPLES)
            frame.planes[0].update(bytes(sound[1]).ljust(frame.planes[0].buffer_size, b"\0"))
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            form = voice.codec_context.format or "s16"
            for each in (*av.AudioResampler(form, "stereo", 48000).resample(frame), None):
                container.mux(voice.encode(each))
    file.seek(0)
    return file


def remuxed(source: io.BytesIO, kind: str, metadata: dict[str, str] | None = None) -> io.BytesIO:
    """Return the same streams in another container, or with other metadata."""
    file = io.BytesIO()
    source.seek(0)
    with av.open(source) as given, av.open(file, "w", format=kind) as container:
        container.metadata.update(metadata or {})
        streams: dict[int, Any] = {}
        for stream in given.streams:
            if hasattr(container, "add_stream_from_template"):
                streams[stream.index] = container.add_stream_from_template(stream)
            else:  # PyAV 12 and 13
                streams[stream.index] = container.add_stream(template=stream)
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    file.seek(0)
    return file


def film(name: str, color: int) -> dict[str, Any]:
    """Return a graph that saves a video of two colours, and a sound."""
    return {
        "1": node("EmptyImage", width=64, height=64, batch_size=4, color=color),
        "2": node("EmptyImage", width=64, height=64, batch_size=4, color=0x00FF00),
        "3": node("ImageBatch", image1=["1", 0], image2=["2", 0]),
        "4": node("EmptyAudio", duration=1.0, sample_rate=44100, channels=2),
        "5": node("CreateVideo", images=["3", 0], fps=8.0, audio=["4", 0]),
        "6": node("SaveVideo", video=["5", 0], filename_prefix=name, format="mp4", codec="h264"),
        "7": node("SaveAudio", audio=["4", 0], filename_prefix=name),
    }


@pytest.mark.thorough
async def test_videos_and_sounds_of_comfyui_are_made_again(api):
    """The files differ, since ComfyUI writes the graph into each; what they contain does not."""
    one, two, other = [
        await complete(api, (await api.run(film(name, color)))["prompt_id"])
        for name, color in (("first", 0xFF0000), ("second", 0xFF0000), ("first", 0x0000FF))
    ]
    found = {each["node_id"]: each["content"] for each in one["outputs"]}
    assert {name: each["kind"] for name, each in found.items()} == {"6": "video", "7": "audio"}
    assert found["6"]["about"].startswith("64 x 64 yuv420p, 8 pictures at 8 per second; 44100 Hz")
    for again, equal in ((two, {"6": True, "7": True}), (other, {"6": False, "7": True})):
        contents = {each["node_id"]: each["content"] for each in again["outputs"]}
        assert {name: contents[name] == found[name] for name in found} == equal
    files = {each["sha256"] for record in (one, two) for each in record["outputs"]}
    assert len(files) == 4
    assert (await verified(api, one["prompt_id"]))["verdict"] == "identical"


@pytest.mark.parametrize("rate", few([24, 16, Fraction(25, 2), Fraction(24000, 1001), 60], 2))
@pytest.mark.parametrize(
    ("kind", "codec", "pixels", "others"),
    [
        ("mp4", "libx264", "yuv420p", ("matroska", "mov", "mpegts")),
        ("webm", "libvpx-vp9", "yuv420p", ("mp4", "matroska")),
        ("matroska", "ffv1", "yuv444p10le", ("matroska",)),
    ],
)
def test_container_and_metadata_of_a_video_do_not_matter(kind, codec, pixels, others, rate):
    options: Any = {"codec": codec, "pixels": pixels, "rate": rate}
    options["pictures"] = [picture(seed) for seed in range(12)]
    first = made(kind, **options)
    found = content_of(first, "a.mp4")
    assert found.kind == "video"
    assert found.about.startswith(f"64 x 48 {pixels}, 12 pictures at ")
    for other in others:
        assert content_of(remuxed(first, other), "b.webm") == found
    # not encoded once more: libx264 seldom makes another stream of the same pictures
    told = remuxed(first, kind, {"comment": "a graph" * 50})
    assert told.getvalue() != first.getvalue()
    assert content_of(told, "a.mp4") == found


@pytest.mark.parametrize(
    ("kind", "codec", "pixels"),
    [
        ("matroska", "ffv1", "bgr0"),
        ("matroska", "ffv1", "rgb48le"),
        ("mov", "png", "rgba"),
        ("avi", "rawvideo", "yuyv422"),
    ],
)
def test_each_picture_of_a_video_counts(kind, codec, pixels):
    pictures = [picture(seed) for seed in range(3)]

    def digest(pictures: Sequence[Image.Image], **options: Any) -> str:
        file = made(kind, codec=codec, pixels=pixels, pictures=pictures, **options)
        return content_of(file, "a.mkv").sha256

    changes = [
        digest(pictures[:2]),
        digest(pictures[::-1]),
        digest([*pictures[:2], picture(2, blue=0x80)]),
        digest(pictures, rate=12),
        digest(pictures, sound=("pcm_s16le", noise())),
    ]
    assert len({digest(pictures), *changes}) == 6


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("flac", "flac"), ("wav", "pcm_s16le"), ("ogg", "flac"), ("mov", "pcm_s16be")],
)
def test_equal_samples_are_the_same_sound(kind, codec):
    plain = content_of(made("wav", sound=("pcm_s16le", noise())), "a.wav")
    assert (plain.kind, plain.about) == ("audio", "48000 Hz s16, 2 channels, 3000 samples")
    told = made(kind, sound=(codec, noise()), metadata={"title": "x"})
    assert content_of(told, "b.flac") == plain
    changed, swapped = noise(), noise()
    changed[-1] ^= 1
    for at in range(0, len(swapped), 4):
        swapped[at : at + 4] = swapped[at + 2 : at + 4] + swapped[at : at + 2]
    for other in (changed, swapped):
        assert content_of(made(kind, sound=(codec, other)), "a.wav").sha256 != plain.sha256


@pytest.mark.parametrize(("kind", "codec"), [("mp3", "libmp3lame"), ("ogg", "libopus")])
def test_compressed_sounds_are_decoded(kind, codec):
    files = [made(kind, sound=(codec, noise()), metadata={"title": each}) for each in "xy"]
    one, other = [content_of(file, f"a.{kind}") for file in files]
    assert files[0].getvalue() != files[1].getvalue()
    assert one == other
    assert one.kind == "audio"


@pytest.mark.skipif(
    not hasattr(av.stream.Stream, "disposition"), reason="this PyAV does not tell covers"
)
def test_a_cover_is_no_video():
    plain = made("flac", sound=("flac", noise()))
    cover = io.BytesIO()
    picture(1).save(cover, "PNG")
    name, body = b"image/png", cover.getvalue()
    block = b"".join(
        [
            *((3).to_bytes(4, "big"), len(name).to_bytes(4, "big"), name, bytes(4)),
            *(bytes(16), len(body).to_bytes(4, "big"), body),
        ]
    )
    whole = plain.getvalue()
    end = 4 + 4 + 34  # of the first block
    head = bytes([6]) + len(block).to_bytes(3, "big")
    covered = io.BytesIO(whole[:end] + head + block + whole[end:])
    assert content_of(covered, "a.flac") == content_of(plain, "a.flac")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not a video" * 100,
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    ],
)
def test_damaged_files_and_lists_of_files_are_told(body):
    for name in ("a.mp4", "a.wav"):
        with pytest.raises(UndecodedError, match="cannot be decoded"):
            content_of(io.BytesIO(body), name)


def test_half_a_video_is_told_or_has_another_content():
    pictures = [picture(seed) for seed in range(30)]
    whole = made("mp4", codec="mpeg4", pixels="yuv420p", pictures=pictures)
    body = whole.getvalue()
    with pytest.raises(UndecodedError, match="cannot be decoded"):
        content_of(io.BytesIO(body[: len(body) // 2]), "a.mp4")
    body = remuxed(whole, "matroska").getvalue()
    half = content_of(io.BytesIO(body[: len(body) // 2]), "a.mkv")
    assert half.sha256 != content_of(whole, "a.mp4").sha256


def test_long_and_large_ones_are_bounded(monkeypatch):
    file = made("matroska", codec="ffv1", pictures=[picture(1)] * 3)
    monkeypatch.setattr(content, "MAX_AUDIO_VIDEO", 2 * 64 * 48)
    with pytest.raises(UndecodedError, match="too long"):
        content_of(file, "a.mkv")
    monkeypatch.setattr(content, "MAX_FRAME", 64 * 48 - 1)
    with pytest.raises(UndecodedError, match="pictures are too large"):
        content_of(file, "a.mkv")
    monkeypatch.setattr(content, "MAX_AUDIO_VIDEO", SAMPLES * 4 - 1)
    with pytest.raises(UndecodedError, match="too long"):
        content_of(made("wav", sound=("pcm_s16le", noise())), "a.wav")


def test_without_pyav_they_are_compared_as_they_are(monkeypatch):
    monkeypatch.setattr(content, "find_spec", lambda _name: None)
    with pytest.raises(UndecodedError, match="PyAV is installed"):
        content_of(made("wav", sound=("pcm_s16le", noise())), "a.wav")
