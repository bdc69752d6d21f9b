"""The hash engine: a hashed bag of words as an engine, to test the rest of the pipeline."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from udfs.engines.contract import Embedder, EngineConfig, Tokens, character_limit, unit
from udfs.engines.model import model_key


class HashEmbedder(Embedder):
    """A signed, hashed bag of lower-cased words; texts that share words get similar vectors.

    Feature hashing: Weinberger et al., Feature Hashing for Large Scale Multitask Learning, 2009.
    """

    engine = "hash"
    dtype = "float32"

    def __init__(self, config: EngineConfig) -> None:
        self.model_key = model_key(config)
        self.dim = config.hash_dimensions
        self._config = config

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """See Embedder."""
        most, limit = self._config.max_tokens, character_limit(self._config)
        prefixed = [self._config.prefix + text for text in texts]
        bags = [re.findall(r"\w+", text[:limit].lower()) or list(text[:limit]) for text in prefixed]
        cut = [len(text) > limit or len(bag) > most for text, bag in zip(prefixed, bags, strict=True)]
        return Tokens([[self._number(word) for word in bag[:most]] for bag in bags], np.array(cut, np.bool_))

    def embed_tokens(self, ids: Sequence[list[int]]) -> np.ndarray:
        """See Embedder."""
        vectors = np.zeros((len(ids), self.dim), np.float64)
        for row, numbers in enumerate(ids):
            for number in numbers:
                vectors[row, (number >> 1) % self.dim] += 1 if number & 1 else -1
            if not vectors[row].any():  # the words cancel each other out, or there are none
                vectors[row, 0] = 1
        return unit(vectors)

    @staticmethod
    def _number(word: str) -> int:
        return int.from_bytes(
            hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little"
        )
