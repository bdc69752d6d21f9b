"""Loading an engine: the kind that the configuration names, once in a process."""

from tests.embedding_server import embedding_server
from tests.udfs.engines.configs import config
from udfs.engines.hashed_words import HashEmbedder
from udfs.engines.load import load_embedder
from udfs.engines.vllm_server import ServerEmbedder


def test_the_hash_engine_is_loaded_once_for_a_configuration():
    hash_config = config(kind="hash", hash_dimensions=16)
    engine = load_embedder(hash_config)
    assert isinstance(engine, HashEmbedder) and engine.dim == 16
    assert load_embedder(config(kind="hash", hash_dimensions=16)) is engine
    assert load_embedder(config(kind="hash", hash_dimensions=32)) is not engine


def test_the_server_engine_asks_its_servers():
    with embedding_server() as server:
        engine = load_embedder(config(kind="vllm_server", timeout_s=20, endpoints=(server.url,)))
        assert isinstance(engine, ServerEmbedder) and engine.dim == 8
        assert sum(server.inputs) == 1
