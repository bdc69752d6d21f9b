"""Loads the configured engine: the only file that knows all kinds."""

from functools import lru_cache

from udfs.engines.contract import Embedder, EngineConfig
from udfs.engines.hashed_words import HashEmbedder


@lru_cache
def load_embedder(config: EngineConfig) -> Embedder:
    """The configured engine, loaded once in a process, which has room for one vLLM. Raises EngineError."""
    if config.kind == "vllm_server":
        from udfs.engines.vllm_server import ServerEmbedder

        return ServerEmbedder(config)
    if config.kind == "vllm":
        from udfs.engines.vllm_local import VllmEmbedder

        return VllmEmbedder(config)
    return HashEmbedder(config)
