"""The normal form of texts, in one place, so that the text that is hashed is the text that is embedded."""

import re
import unicodedata
from collections.abc import Callable
from typing import Final

import pyarrow as pa

from udfs.worker_start import without_pandas

# The version of the normal form: 3 strips all that Unicode calls ignorable, 2 less of it, and 1 none.
NORMAL_FORM: Final = 3

# Members of character classes, which Python's and Java's regular expressions read alike: Spark decides by the
# same ones about records. First what str.split takes for white space.
BLANKS: Final = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# Seen nowhere: controls that are no white space, and what Unicode lets programs ignore
# (Default_Ignorable_Code_Point) but for what follows: soft hyphen, zero width space, word joiner, invisible
# operators, byte order mark, annotation marks, controls of shorthand and music, places not yet assigned.
UNSEEN: Final = (
    r"\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u17b4\u17b5\u200b\u2060-\u2065"
    r"\u206a-\u206f\ufeff\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0080-\U000e00ff\U000e01f0-\U000e0fff"
)
# Unseen themselves, but they may change how other characters look: joiners, variation selectors, tags (of the
# flags of regions), and marks of the direction of writing, which change the order that is seen.
JOINERS, TAGS = r"\u200c\u200d", "\U000e0000-\U000e007f"
SELECTORS: Final = "\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
DIRECTIONS: Final = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# They look like a blank and stay, since Korean syllables and Braille are written with them.
FILLERS: Final = r"\u115f\u1160\u2800\u3164\uffa0"
ODD: Final = UNSEEN + JOINERS + SELECTORS + TAGS + DIRECTIONS + FILLERS
# What a joiner acts on: scripts from Arabic to those of India and South-East Asia, and emoji (Unicode
# Standard, 23.2; Unicode Technical Standard 51).
_JOINED = (
    "\u0600-\u1cff\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\ua800-\uabff\ufb50-\ufdff\ufe70-\ufefc"
    "\U00010a00-\U00011fff\U0001e900-\U0001e95f\U0001f000-\U0001faff"
)
# What a variation selector acts on: #, *, digits, and what is not ASCII and seen; nor are signs that NFC
# makes ASCII.
_SELECTED = rf"[^\x00-\x22\x24-\x29\x2b-\x2f\x3a-\x7f\u037e\u1fef\u212a{BLANKS}{ODD}]"
# What is stripped from a text: the unseen, and what has nothing to act on.
STRIPPED: Final = (
    f"[{UNSEEN}]+"
    f"|(?<![{_JOINED}])(?<![{_JOINED}][{SELECTORS}])[{JOINERS}](?![{_JOINED}])"
    f"|(?<!{_SELECTED})[{SELECTORS}]"
    f"|(?<![\U0001f3f4{TAGS}])[{TAGS}]+"
)
# A text without such a character is blank.
VISIBLE: Final = f"[^{BLANKS}{ODD}]"
_ODD, _STRIPPED, _VISIBLE = re.compile(f"[{ODD}]"), re.compile(STRIPPED), re.compile(VISIBLE)


def normalise(text: str) -> str:
    r"""Without what no eye sees, NFC (Unicode Standard Annex 15), each run of white space as one blank.

    There is no blank at the ends, and a text without anything visible is empty. Case is kept. The text_key of
    a text is the SHA-256 of its normal form in UTF-8, in lower-case hex: Spark's sha2(text, 256). A change of
    the normal form is a new NORMAL_FORM.

    >>> normalise("  Cafe\u0301\u00a0 au\tla\u200bit\b ")
    'Café au lait'
    """
    return " ".join(unicodedata.normalize("NFC", seen(text)).split())


def seen(text: str) -> str:
    r"""The text without the characters that change nothing that is seen; empty if it shows nothing at all.

    Joiners between letters of scripts that join, selectors, the sequences of emoji and marks of direction
    stay.

    >>> seen("\ufeffa\0b\u200d, \u2764\ufe0f") == "ab, \u2764\ufe0f"
    True
    """
    # Most texts have no such character.
    if _ODD.search(text) is None:
        return text
    stripped = _STRIPPED.sub("", text)
    return stripped if _VISIBLE.search(stripped) is not None else ""


def map_distinct(texts: pa.Array, function: Callable[[str], str | None]) -> pa.Array:
    """The function's value for each text of a column [n], null for null.

    The function is called once for each distinct text, since logs repeat them.

    >>> map_distinct(pa.array(["a", None, "a"]), str.upper).to_pylist()
    ['A', None, 'A']
    """
    without_pandas()
    encoded = texts.dictionary_encode()
    values = pa.array([function(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return values.take(encoded.indices)
