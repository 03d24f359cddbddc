"""The colours of the page, in its light and its dark theme."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kolus.admin

CSS = (Path(kolus.admin.__file__).parent / "page" / "page.css").read_text()
THEMES = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
OF_TEXT = ("text", "soft", "bad", "warn", "good")


def luminance(colour: str) -> float:
    """How bright a colour is, from 0 to 1, as WCAG 2 has it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, bright = sorted([luminance(one), luminance(other)])
    return (bright + 0.05) / (dark + 0.05)


def test_the_contrast_is_that_of_wcag() -> None:
    assert contrast("ffffff", "000000") == pytest.approx(21)
    assert contrast("777777", "ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", THEMES, ids=["light", "dark"])
def test_text_can_be_read_in_both_themes(theme: str) -> None:
    colours = dict(re.findall(r"--(\w+): #(\w{6});", theme))
    for name in OF_TEXT:
        for ground in ("back", "raised"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def test_the_dark_theme_is_dark_and_has_every_colour_of_the_light_one() -> None:
    light, dark = [dict(re.findall(r"--(\w+): #(\w{6});", each)) for each in THEMES]
    assert light.keys() == dark.keys()
    assert luminance(dark["back"]) < 0.02 < 0.9 < luminance(light["back"])
