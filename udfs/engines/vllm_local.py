"""The engine inside the worker: vLLM in this process, on the GPUs assigned to it or on the CPU."""

import faulthandler
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from udfs.engines.contract import Embedder, EngineConfig, Tokens, dimension, first_line, unit
from udfs.engines.model import PACKAGED_NAME, load_tokenizer, model_folder, model_key, tokenise
from udfs.errors import EngineError
from udfs.worker_start import hidden_imports

# Seconds after the timeout at which the process ends itself: a call that holds the interpreter can't be
# abandoned.
GRACE_S: Final = 30
# Packages that transformers imports, if installed, for training and text generation: 5 of the 21 s of vLLM's
# import.
NOT_FOR_EMBEDDING: Final = ("sklearn", "scipy")
# How much faster bfloat16 must be to be chosen: it is less precise, and two runs should choose the same
# dtype.
BFLOAT16_GAIN: Final = 1.25
# Tokens in one step of the model on a CPU, with room for partly filled cache blocks.
STEP_TOKENS: Final = 16384


class VllmEmbedder(Embedder):
    """vLLM in this process.

    The engine runs in its own thread, so that a hanging call can be abandoned: the caller gets an
    EngineError, after which the process must end.
    """

    engine = "vllm"
    is_loaded = False

    def __init__(self, config: EngineConfig) -> None:
        if VllmEmbedder.is_loaded:
            # vLLM's process groups belong to the process: a second engine would share and destroy the first
            # one's.
            raise EngineError("this process already has an engine with another configuration")
        self.model_key = model_key(config)
        self._config = config
        self._thread = ThreadPoolExecutor(1, "engine")
        self._tokenizer = load_tokenizer(config)
        self._within(self._load)
        self.dim = dimension(config, self._within(self._run, self.tokenise(["a"]).ids).shape[1])

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """See Embedder."""
        return tokenise(self._tokenizer, self._config, texts)

    def embed_tokens(self, ids: Sequence[list[int]]) -> np.ndarray:
        """See Embedder."""
        if not ids:
            return np.empty((0, self.dim), np.float32)
        return unit(self._within(self._run, ids)[:, : self.dim])

    def _load(self) -> None:
        config = self._config
        folder = model_folder(config)
        os.environ |= environment(config, cache_gib(folder, config.max_tokens))
        with quiet(), hidden_imports(*NOT_FOR_EMBEDDING):
            from vllm.config import PoolerConfig
            from vllm.engine.arg_utils import EngineArgs
            from vllm.usage.usage_lib import UsageContext
            from vllm.v1.engine.llm_engine import LLMEngine

            require_gpus(config, gpu_count())
            self.dtype = pick_dtype() if config.dtype == "auto" else config.dtype
            arguments = EngineArgs(
                model=str(folder),
                runner="pooling",
                dtype=self.dtype,
                # Graphs and compilation cost minutes at the start and gain nothing on short pooling batches.
                enforce_eager=True,
                max_model_len=config.max_tokens,
                pooler_config=PoolerConfig(seq_pooling_type=config.pooling),
                load_format="safetensors",
                trust_remote_code=config.trust_remote_code,
                disable_log_stats=True,
                # Most texts are shorter than vLLM's cache block of 128 tokens; 32, its minimum on a CPU, is
                # 12% faster.
                block_size=None if has_gpu() else 32,
                tensor_parallel_size=max(1, config.gpus),
                # vLLM's default share of a GPU's memory, divided among the engines on it.
                gpu_memory_utilization=0.92 / config.engines_per_gpu,
            )
            try:
                # Not vLLM's class LLM, which turns every vector into a list of Python floats.
                self._engine: Any = LLMEngine.from_engine_args(
                    arguments, usage_context=UsageContext.LLM_CLASS
                )
            except Exception as error:  # vLLM passes on whatever its libraries raise
                raise EngineError(
                    f"vLLM could not load {config.model or PACKAGED_NAME}: {load_problem(error)}"
                ) from error
        VllmEmbedder.is_loaded = True

    def _run(self, ids: Sequence[list[int]]) -> np.ndarray:
        """The engine's raw vectors, float64[n, d], in the order of ids.

        A failed call leaves no request behind.
        """
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
        """The result of `work`, run in the engine's thread. Raises EngineError after config.timeout_s."""
        seconds = self._config.timeout_s
        # A call that holds the interpreter also blocks this thread; then the process ends, with its stacks on
        # stderr.
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


def cache_gib(folder: Path, max_tokens: int) -> int:
    """GiB of key-value cache for the longest text and the batch of one step, at 4 bytes per number, on a CPU.

    Raises EngineError if the model's config.json is missing or unreadable.
    """
    try:
        model = dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(
            f"engine.model: {folder} has no readable config.json: {type(error).__name__}"
        ) from error
    heads = model.get("num_attention_heads", 1)
    width = model.get("head_dim") or model.get("hidden_size", 0) // heads
    bytes_per_token: int = (
        2 * 4 * model.get("num_hidden_layers", 0) * (model.get("num_key_value_heads") or heads) * width
    )
    return 1 + bytes_per_token * (max_tokens + STEP_TOKENS) // 2**30


def load_problem(error: Exception) -> str:
    """Why vLLM refused the model or the settings, in one line; a pydantic error begins with a heading."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return " ".join(error.errors()[0]["msg"].removeprefix("Value error, ").split())[:500]
    return (
        first_line(error)
        if isinstance(error, ValueError | OSError | RuntimeError)
        else f"{type(error).__name__}: {first_line(error)}"
    )


def gpu_count() -> int:
    """The GPUs that torch sees."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def has_gpu() -> bool:
    """Whether torch sees a GPU."""
    return gpu_count() > 0


def require_gpus(config: EngineConfig, count: int) -> None:
    """Raises EngineError if there are fewer GPUs than configured: a CPU would silently take days."""
    if config.gpus > count:
        raise EngineError(f"engine.gpus is {config.gpus}, but this worker sees {count}")


def product_seconds(dtype: str) -> float:
    """Seconds for a batch of tokens through the widest layer of a small model, the best of six."""
    import torch

    batch, weights = (
        torch.ones(512, 384, dtype=getattr(torch, dtype)),
        torch.ones(1536, 384, dtype=getattr(torch, dtype)),
    )
    taken = []
    for _ in range(6):
        began = time.perf_counter()
        torch.nn.functional.linear(batch, weights)
        taken.append(time.perf_counter() - began)
    return min(taken)


def pick_dtype(seconds: Callable[[str], float] = product_seconds) -> str:
    """bfloat16 on a GPU and on a CPU that multiplies faster in it, else float32.

    vLLM itself picks float16, which is slow on a CPU.

    `seconds` measures a product in a dtype. The instruction set does not tell: of two processors with
    avx512_bf16 and without matrix units, one computed 2.3 times as fast in bfloat16 and the other half as
    fast.
    """
    if has_gpu():
        return "bfloat16"
    return "bfloat16" if BFLOAT16_GAIN * seconds("bfloat16") < seconds("float32") else "float32"


def environment(config: EngineConfig, cache: int) -> dict[str, str]:
    """The environment variables that vLLM and CUDA read once, at import.

    Raises EngineError if vLLM has already been imported for other GPUs.
    """
    devices = ",".join(config.devices)
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if devices and "vllm" in sys.modules and before != devices:
        raise EngineError(
            f"this worker's engine has GPU {before}, and the task was given {devices}; "
            "give each executor the GPUs of one engine"
        )
    return {
        # In this process the engine starts in half the time and can't outlive the worker.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_CPU_KVCACHE_SPACE": str(cache),
        # If unset, vLLM lowers torch to one thread.
        "OMP_NUM_THREADS": str(config.threads or os.cpu_count() or 1),
    } | ({"CUDA_VISIBLE_DEVICES": devices} if devices else {})


@contextmanager
def quiet() -> Iterator[None]:
    """Discards stdout and stderr, at the file descriptors, since the engine's C++ code writes there too."""
    sys.stdout.flush()
    sys.stderr.flush()
    discard = os.open(os.devnull, os.O_WRONLY)
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    try:
        for descriptor in saved:
            os.dup2(discard, descriptor)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(discard)
