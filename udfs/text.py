"""The normal form of texts, in one place, so that the text that is hashed is the text that is embedded."""

import unicodedata
from collections.abc import Callable

import pyarrow as pa

from udfs.worker_start import without_pandas


def normalise(text: str) -> str:
    r"""NFC (Unicode Standard Annex 15), each run of Unicode white space as one blank, and none at the ends.

    Case is kept. The text_key of a text is the SHA-256 of its normal form in UTF-8, in lower-case hex:
    Spark's sha2(text, 256).

    >>> normalise("  Cafe\u0301\u00a0 au\tlait ")
    'Café au lait'
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


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
