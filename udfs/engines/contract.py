"""What every engine is asked and what it is made of: the leaf that a driver may import without loading anything heavy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np

from udfs.errors import EngineError

# A tokenizer reads the whole text before it cuts; English has 4 to 5 characters a token, and no language 16 on average.
CHARACTERS_PER_TOKEN: Final = 16
# A shorter vector has no direction but that of its rounding.
SMALLEST_LENGTH: Final = 1e-12


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


def dimension(config: EngineConfig, size: int) -> int:
    """Length of the vectors that are kept of a model's `size` numbers. Raises EngineError."""
    if config.dimensions is not None and config.dimensions > size:
        raise EngineError(f"engine.dimensions is {config.dimensions}, but the model gives {size} numbers")
    return config.dimensions or size


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
