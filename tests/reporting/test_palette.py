"""The emotions' colours, by WCAG 2.1, CIELAB, CIEDE2000 and Machado et al. 2009 as written out here."""

import itertools
import math

import pytest

from light_sernet_kd.corpora.types import CANONICAL_EMOTIONS
from light_sernet_kd.reporting import palette

# Severity 1.0 of Machado, Oliveira and Fernandes 2009, for linear RGB.
VISIONS = {
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "common": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}
TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
D65 = (0.95047, 1.0, 1.08883)
EMO_DB = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")


def linear(colour):
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]


def times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def lab(colour, vision="common"):
    seen = [min(max(each, 0), 1) for each in times(VISIONS[vision], linear(colour))]
    shares = [value / white for value, white in zip(times(TO_XYZ, seen), D65, strict=True)]
    x, y, z = ((s ** (1 / 3) if s > (6 / 29) ** 3 else s * (29 / 6) ** 2 / 3 + 4 / 29) for s in shares)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def ciede2000(one, other):
    """Sharma, Wu and Dalal 2005, equations 2 to 22."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    g = 0.5 * (1 - math.sqrt(mean**7 / (mean**7 + 25**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = math.hypot(a1, b1), math.hypot(a2, b2)
    h1, h2 = (math.degrees(math.atan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    hue_difference = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn) / 2)
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = h1 + h2 if c1 * c2 == 0 else (h1 + turn / 2) % 360
    t = 1 + sum(
        factor * math.cos(math.radians(k * hue + shift))
        for factor, k, shift in ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    )
    s_l = 1 + 0.015 * (light - 50) ** 2 / math.sqrt(20 + (light - 50) ** 2)
    parts = (l2 - l1) / s_l, (c2 - c1) / (1 + 0.045 * chroma), hue_difference / (1 + 0.015 * chroma * t)
    rotation = -2 * math.sqrt(chroma**7 / (chroma**7 + 25**7))
    rotation *= math.sin(math.radians(60) * math.exp(-(((hue - 275) / 25) ** 2)))
    return math.sqrt(sum(part**2 for part in parts) + rotation * parts[1] * parts[2])


def pairs(classes):
    return itertools.combinations(palette.colours(classes).items(), 2)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (58, 24, 15), 19.4535),
        ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
    ],
)
def test_the_difference_is_that_of_the_published_table(one, other, expected):
    """Table 1 of Sharma, Wu and Dalal 2005."""
    assert ciede2000(one, other) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_two_emotions_are_told_apart(theme, vision):
    for (name, one), (other, another) in pairs(palette.EMOTIONS):
        labs = [lab(getattr(each, theme), vision) for each in (one, another)]
        assert math.dist(*labs) >= 15, (name, other)
        least = 15 if {name, other} <= {*EMO_DB} else 12
        assert ciede2000(*labs) >= least, (name, other)


def test_the_colours_of_before_were_not():
    """Sadness was too near to fear and boredom: the check would have seen it."""
    okabe_ito = {"boredom": "#E69F00", "disgust": "#009E73", "fear": "#D55E00", "happiness": "#CC79A7"}
    differences = [
        ciede2000(*(lab(colour, vision) for colour in both))
        for vision in ("deuteranopia", "protanopia")
        for both in itertools.combinations(okabe_ito.values(), 2)
    ]
    assert min(differences) < 15


@pytest.mark.parametrize(
    ("theme", "surface"), [("light", palette.LIGHT_SURFACE), ("dark", palette.DARK_SURFACE)]
)
def test_colours_are_seen_on_the_page_and_words_on_them_are_read(theme, surface):
    def luminance(colour):
        return sum(weight * each for weight, each in zip(TO_XYZ[1], linear(colour), strict=True))

    def contrast(one, other):
        low, high = sorted(map(luminance, (one, other)))
        return (high + 0.05) / (low + 0.05)

    for name, each in palette.colours(palette.EMOTIONS).items():
        assert contrast(getattr(each, theme), surface) >= 3, name
        assert contrast(getattr(each, theme), getattr(each, f"on_{theme}")) >= 4.5, name


def test_every_emotion_of_a_corpus_has_a_colour_and_others_get_one_that_is_free():
    assert set(CANONICAL_EMOTIONS) == set(palette.EMOTIONS)
    found = palette.colours([*EMO_DB, "joy", "rage"])
    assert len({each.light for each in found.values()}) == len(found)
    assert len(palette.colours([f"class {k}" for k in range(30)])) == 30
