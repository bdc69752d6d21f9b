"""Loads the configured engine; the only file that knows every kind."""

from functools import lru_cache

from udfs.engines.contract import Embedder, EngineConfig
from udfs.engines.hashed_words import HashEmbedder


@lru_cache
def load_embedder(config: EngineConfig) -> Embedder:
    """The configured engine, loaded once per process. Raises EngineError if it can't be loaded.

    A process has room for one vLLM: loading a second configuration of it fails.
    """
    if config.kind == "vllm_server":
        from udfs.engines.vllm_server import ServerEmbedder

        return ServerEmbedder(config)
    if config.kind == "vllm":
        from udfs.engines.vllm_local import VllmEmbedder

        return VllmEmbedder(config)
    return HashEmbedder(config)
