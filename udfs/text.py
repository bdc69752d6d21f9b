"""The one place where a text gets its normal form and its key, so that what is hashed is what is embedded."""

import hashlib
import unicodedata
from collections.abc import Callable

import pyarrow as pa

from udfs.worker_start import without_pandas


def normalise(text: str) -> str:
    """NFC, with every run of Unicode white space made one blank and none at the ends; case is kept."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def text_key(normal_text: str) -> str:
    """SHA-256 of a normalised text's UTF-8, lower-case hex. A lone surrogate, which UTF-8 has no bytes for, counts as U+FFFD."""
    return hashlib.sha256(normal_text.encode("utf-8", "replace")).hexdigest()


def map_distinct(texts: pa.Array, function: Callable[[str], str | None]) -> pa.Array:
    """The function's value for each text of a column [n], null for null; called once for each distinct text, since logs repeat them."""
    without_pandas()
    encoded = texts.dictionary_encode()
    values = pa.array([function(text) for text in encoded.dictionary.to_pylist()], pa.string())
    return values.take(encoded.indices)
