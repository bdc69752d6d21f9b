"""The interface of the engines and their configuration; importing it loads no model library."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np

from udfs.errors import EngineError

# A tokenizer reads the entire text before it truncates, so long texts are cut by characters first. English
# has 4 to 5 characters per token, and no language has 16 on average.
CHARACTERS_PER_TOKEN: Final = 16
# The direction of a shorter vector is rounding noise.
SMALLEST_LENGTH: Final = 1e-12


@dataclass(frozen=True)
class EngineConfig:
    """The settings of one engine; schemas/settings.py has their meaning, units and defaults."""

    kind: str
    model: str | None
    trust_remote_code: bool
    dtype: str
    pooling: str
    prefix: str
    max_tokens: int
    dimensions: int | None
    hash_dimensions: int
    call_tokens: int
    threads: int
    timeout_s: int
    gpus: int
    engines_per_gpu: int
    endpoints: tuple[str, ...]
    served_model: str | None
    key_variable: str
    key_file: str | None
    requests: int
    # The GPUs that Spark assigned to this task; not a setting.
    devices: tuple[str, ...] = ()


class Tokens(NamedTuple):
    """The model's input for n texts: the token ids of each, and whether it was truncated, bool[n]."""

    ids: list[list[int]]
    truncated: np.ndarray


class Embedder(Protocol):
    """A loaded engine.

    Tokenising does not use the model, so it may run in another thread at the same time.
    """

    model_key: str
    dim: int
    engine: str
    dtype: str
    # How many machines answer in turn; each is checked before its vectors are stored.
    machines: int = 1

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """Token ids of the prefixed texts, truncated to max_tokens."""
        ...

    def embed_tokens(self, ids: Sequence[list[int]]) -> np.ndarray:
        """Vectors float32[n, dim] of unit length, in one engine call. Raises EngineError if it times out."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors float32[n, dim] of unit length."""
        return self.embed_tokens(self.tokenise(texts).ids)


def dimension(config: EngineConfig, size: int) -> int:
    """Length of the stored vectors of a model that gives `size` numbers.

    Raises EngineError if more are configured.
    """
    if config.dimensions is not None and config.dimensions > size:
        raise EngineError(f"engine.dimensions is {config.dimensions}, but the model gives {size} numbers")
    return config.dimensions or size


def character_limit(config: EngineConfig) -> int:
    """How many characters of a prefixed text an engine reads."""
    return CHARACTERS_PER_TOKEN * config.max_tokens


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 500 characters; its type if it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows float64[n, d] at unit length, as float32[n, d]; a row near zero or not finite stays unchanged."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[~(lengths >= SMALLEST_LENGTH) | ~np.isfinite(lengths)] = 1.0
    return np.asarray(vectors / lengths[:, None], np.float32)
