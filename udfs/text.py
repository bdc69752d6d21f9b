"""The one place where a text gets its normal form and its key, so that what is hashed is what is embedded."""

import hashlib
import unicodedata

import pyarrow as pa


def normalise(text: str) -> str:
    """NFC, with every run of Unicode white space made one blank and none at the ends; case is kept."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def text_key(normal_text: str) -> str:
    """SHA-256 of a normalised text's UTF-8, lower-case hex. A lone surrogate, which UTF-8 has no bytes for, counts as U+FFFD."""
    return hashlib.sha256(normal_text.encode("utf-8", "replace")).hexdigest()


def normalise_column(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Normal forms and keys of a string column [n]; null where the text is null or nothing is left of it.

    Distinct texts are computed once: logs repeat them.
    """
    encoded = texts.dictionary_encode()
    normal = [normalise(text) or None for text in encoded.dictionary.to_pylist()]
    keys = [None if text is None else text_key(text) for text in normal]
    return (
        pa.array(normal, pa.string()).take(encoded.indices),
        pa.array(keys, pa.string()).take(encoded.indices),
    )
