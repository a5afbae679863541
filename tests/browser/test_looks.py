"""What counts as a difference between two screenshots."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from tests.browser.looks import TOLERANCE, WORD_TOLERANCE, difference


def test_moved_or_missing_parts_are_noticed() -> None:
    def drawn(*boxes: tuple[int, int, int, int]) -> Image.Image:
        picture = Image.new("RGB", (500, 300), "white")
        draw = ImageDraw.Draw(picture)
        for box in boxes:
            draw.rectangle(box, fill="navy")
        return picture

    accepted = drawn((20, 20, 120, 60), (20, 100, 480, 200))
    assert difference(accepted, accepted) == (0, 0)
    assert difference(accepted, drawn((20, 20, 121, 60), (20, 100, 480, 200)))[0] < TOLERANCE
    assert difference(accepted, drawn((20, 100, 480, 200)))[0] > TOLERANCE
    assert difference(accepted, drawn((20, 20, 120, 60), (20, 120, 480, 220)))[0] > TOLERANCE
    assert difference(accepted, accepted.resize((500, 340))) == (1, 1)


def test_an_added_or_removed_word_is_noticed_but_not_another_time_of_day() -> None:
    def written(text: str) -> Image.Image:
        picture = Image.new("RGB", (1440, 1000), "white")
        font = ImageFont.load_default(13)
        ImageDraw.Draw(picture).text((100, 83), text, fill="black", font=font)
        return picture.resize((720, 500), Image.Resampling.LANCZOS)

    accepted = written("07:03 PM 7.8 s")
    for text in ("11:48 AM 7.8 s", "07:03 PM 12.5 s"):
        share, densest = difference(accepted, written(text))
        assert share < TOLERANCE
        assert densest < WORD_TOLERANCE / 2
    share, densest = difference(accepted, written("07:03 PM 7.8 s and the last run is done"))
    assert share < TOLERANCE, "the words are a small part of the picture"
    assert densest > WORD_TOLERANCE
