"""The normal form of texts, and functions over a column of texts."""

import re
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.text import BLANKS, ODD, VISIBLE, map_distinct, normalise, seen


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("  a  b\t\nc ", "a b c"),
        ("a\u2003b\u00a0c", "a b c"),  # Unicode white space
        ("Cafe\u0301", "Caf\u00e9"),  # composed
        ("Tea POT", "Tea POT"),  # case is kept
        (" \n", ""),
        ("\u56de\b\u7b54", "\u56de\u7b54"),  # a backspace in a Chinese reply
        ("a\0b\x1b[2Jc\x9bd\x85e", "ab[2Jcd e"),  # NUL, escape, C1; next line is white space
        ("\ufeffa\u200bb\u2060c\u00add", "abcd"),  # byte order mark, zero width, word joiner, soft hyphen
        ("\u200b\ufeff \u200d\ufe0f\u200e", ""),  # nothing visible
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("\u0915\u094d\u200d \u0937", "\u0915\u094d\u200d \u0937"),  # a half form of Devanagari
        ("pass\u200dword\u200c", "password"),  # Latin letters do not join
        ("\U0001f469\u200d\u2764\ufe0f\u200d\U0001f468", "\U0001f469\u200d\u2764\ufe0f\u200d\U0001f468"),
        ("1\ufe0f\u20e3 a\ufe0f \ufe0fb", "1\ufe0f\u20e3 a b"),  # a keycap, and selectors of nothing
        ("\u845b\U000e0100", "\u845b\U000e0100"),  # a variant of a Chinese character
        ("\U0001f3f4\U000e0067\U000e007f a\U000e0067\U000e0068", "\U0001f3f4\U000e0067\U000e007f a"),
        ("\u200f\u05e9\u202e abc", "\u200f\u05e9\u202e abc"),  # the order is seen
        ("a\u034fb\u2065c\ufff0d\U0001d173e\u17b4f", "abcdef"),  # the rest of what Unicode calls ignorable
        ("\u1820\u180bb\u180e", "\u1820\u180bb"),  # a selector of Mongolian, and one of nothing
        ("\u3164\u2800 \uffa0", ""),  # what looks like a blank shows nothing by itself
        ("\u1112\u1160 \u2801\u2800", "\u1112\u1160 \u2801\u2800"),  # and stays in Korean and Braille
        ("e\u200b\u0301", "\u00e9"),  # composed after stripping
    ],
)
def test_normal_form(raw, normal):
    assert normalise(raw) == normal
    assert normalise(normal) == normal


# Every unseen character, and neighbours on which they may act.
CHARACTERS = st.sampled_from(
    [c for c in map(chr, range(0x110000)) if re.fullmatch(f"[{ODD}{BLANKS}]", c)]
) | st.sampled_from(
    "a1# \u00e9\u0301\u0627\u0915\u845b\u212a\u2764\u2329\U0001f3f4\U0001f469\U0001f3fb\uac00"
)


@given(st.text(CHARACTERS, max_size=8))
def test_the_normal_form_of_a_normal_form_is_itself(raw):
    normal = normalise(raw)
    assert normalise(normal) == normal and seen(seen(raw)) == seen(raw)
    assert bool(normal) == (re.search(VISIBLE, raw) is not None)


def test_white_space_is_what_python_takes_for_it():
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    spaces = {character for character in characters if character.isspace()}
    assert set(re.findall(f"[{BLANKS}]", "".join(characters))) == spaces


def test_a_text_without_unseen_characters_has_the_normal_form_that_it_had_before():
    characters = "".join(chr(c) for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000)
    usual = re.sub(f"[{ODD}]", "", characters)
    assert normalise(usual) == " ".join(unicodedata.normalize("NFC", usual).split())


def test_the_function_is_called_once_for_each_distinct_text():
    calls = []

    def upper(value: str) -> str | None:
        calls.append(value)
        return None if value == "drop" else value.upper()

    texts = pa.array(["a", "b", None, "a", "drop"])
    assert map_distinct(texts, upper).to_pylist() == ["A", "B", None, "A", None]
    assert calls == ["a", "b", "drop"]
