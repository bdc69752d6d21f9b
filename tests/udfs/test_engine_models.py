"""The real engine, vLLM: agreement with other implementations on the same weights, and texts made to break it.

Each test has a process of its own, as a Spark worker is: vLLM's import trips over numba's modules where they are loaded already.
"""

import csv
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.vllm_server import KEY, MODEL, free_port, vllm_server
from udfs.embed import OUTPUT_SCHEMA, Expected, embed_stream
from udfs.engines.contract import EngineConfig, Tokens
from udfs.engines.load import load_embedder
from udfs.engines.model import model_folder, model_key
from udfs.errors import EngineError

WORDS = [
    "tea",
    "pot",
    "red",
    "bicycle",
    "running",
    "shoes",
    "green",
    "a",
    "the",
    "of",
    "for",
    "garden",
    "chair",
    "lamp",
    "query",
    ":",
]
POISON = [
    "", "x", "ab " * 1_700_000, "\U0001f600" * 50, "[CLS] [SEP] [PAD] [MASK] [UNK]", "\ud800 lone \udfff", "word " * 100_000,
    "x" * 5_000_000, "\x00\x01\x7f", "\u202e\u200b\ufeff", "é" * 3000, "<s></s><|endoftext|>",
]  # fmt: skip


def in_own_process(work: Callable[..., Any], *args: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *args).result()


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    return np.sum(left * right, axis=1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))


def embedded(texts: list[str], config: EngineConfig) -> pa.Table:
    keys = [str(i) for i in range(len(texts))]
    # Arrow has no lone surrogates; a log's reader replaces them before. The engine itself is asked below.
    column = [text.encode("utf-8", "replace").decode() for text in texts]
    batch = pa.RecordBatch.from_pydict({"text_key": keys, "text": column})
    return pa.Table.from_batches(
        list(embed_stream(iter([batch]), config, Expected(model_key(config)))), OUTPUT_SCHEMA
    )


def hostile_and_clean() -> dict[str, Any]:
    """The poison list beside normal texts, and the normal texts alone; a model that fails; and that all is well afterwards."""
    config = EngineConfig()
    normal = [f"{WORDS[i % 13]} {WORDS[i % 7]} number {i} for the garden" for i in range(100)]
    texts = [
        text
        for i, text in enumerate(normal)
        for text in ([POISON[i // 8], text] if i % 8 == 0 and i // 8 < len(POISON) else [text])
    ]
    try:
        load_embedder(EngineConfig(max_tokens=100_000))
        said = ""
    except EngineError as error:
        said = str(error)
    engine = load_embedder(config)
    clean, mixed = embedded(normal, config), embedded(texts, config)
    surrogate = engine.embed([POISON[5]])
    with_bad_token = [*engine.tokenise(normal[:7]).ids, [10**7]]
    real, engine.tokenise = (
        engine.tokenise,
        lambda texts: Tokens(with_bad_token, np.zeros(8, np.bool_)) if len(texts) == 8 else real(texts),
    )
    bad = embedded(normal[:8], config)
    engine.tokenise = real
    try:
        load_embedder(EngineConfig(max_tokens=128))
    except EngineError as error:
        said += f"; {error}"
    return {
        "texts": texts, "normal": normal, "clean": clean, "mixed": mixed, "surrogate": surrogate, "bad": bad, "said": said,
        "related": engine.embed(["trail running shoes", "jogging footwear", "a pot of green tea"]), "dtype": engine.dtype,
    }  # fmt: skip


def said_of_broken_weights(folder: Path, length: int) -> str:
    """What a copy of the packaged model says whose weights end early."""
    shutil.copytree(model_folder(EngineConfig()), folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:length])
    try:
        load_embedder(EngineConfig(model=str(folder)))
    except EngineError as error:
        return str(error)
    return ""


@pytest.mark.vllm
@pytest.mark.slow
def test_weights_that_end_early_are_told(tmp_path):
    said = in_own_process(said_of_broken_weights, tmp_path / "cut", 10**6)
    assert said.startswith("vLLM could not load ") and "incomplete metadata" in said


@pytest.mark.vllm
def test_one_bad_text_costs_one_text():
    got = in_own_process(hostile_and_clean)
    rows = dict(zip(got["texts"], got["mixed"].to_pylist(), strict=True))
    clean = np.array(got["clean"]["vector"].to_pylist())
    assert clean.shape == (100, 384) and np.allclose(np.linalg.norm(clean, axis=1), 1, atol=1e-5)
    assert cosines(np.array([rows[text]["vector"] for text in got["normal"]]), clean).min() > 0.9999
    assert all(rows[text]["vector"] or rows[text]["reason"] for text in POISON)
    assert [rows[text]["truncated"] for text in POISON] == [i in (2, 6, 7) for i in range(12)]
    assert rows[POISON[6]]["token_count"] == 256 and np.isfinite(got["surrogate"]).all()
    # A token that the model does not know fails the whole call.
    assert got["bad"]["reason"].to_pylist() == [None] * 7 + ["engine_error"]
    assert cosines(np.array(got["bad"]["vector"].to_pylist()[:7]), clean[:7]).min() > 0.9999
    assert got["said"].startswith(
        "vLLM could not load all-minilm-l6-v2: User-specified max_model_len (100000) is greater"
    )
    assert got["said"].endswith("; this process has an engine of another configuration already")
    running, jogging, tea = got["related"]
    assert running @ jogging > running @ tea + 0.2


def beside_sentence_transformers(texts: list[str]) -> np.ndarray:
    """Cosines of both implementations' vectors of each text."""
    from sentence_transformers import SentenceTransformer

    other = SentenceTransformer(str(model_folder(EngineConfig())), device="cpu")
    theirs = other.encode(texts, normalize_embeddings=True)
    return cosines(load_embedder(EngineConfig()).embed(texts), theirs)


@pytest.mark.vllm
@pytest.mark.slow
def test_vectors_agree_with_sentence_transformers(shared_data):
    with (shared_data / "ml-latest-small" / "movies.csv").open(encoding="utf-8", newline="") as file:
        titles = sorted({row["title"] for row in csv.DictReader(file)})[::20]
    # Titles, and runs of them up to the most that the model sees.
    texts = titles[:400] + [" ".join(titles[i : i + 1 + i // 3]) for i in range(100)]
    assert len(texts) == 500 and in_own_process(beside_sentence_transformers, texts).min() >= 0.999


def save_tokenizer(folder: Path, template: str, special: list[str]) -> None:
    """A tokenizer of whole words, with the model family's special tokens around a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(t, vocabulary[t]) for t in special if t in template]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=special[0], pad_token=special[0]
    ).save_pretrained(folder)


def save_bge(folder: Path) -> None:
    """A BERT with random weights, as the BGE family is built: an encoder whose first token is the vector."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    size = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 512,
    }
    BertModel(BertConfig(vocab_size=64, initializer_range=0.3, **size)).save_pretrained(folder)
    save_tokenizer(folder, "[CLS] $A [SEP]", ["[UNK]", "[CLS]", "[SEP]"])


def save_qwen3(folder: Path) -> None:
    """A Qwen3 with random weights, as Qwen3-Embedding is built: a decoder whose last token, an end of text, is the vector."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(2)
    size = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
    }
    config = Qwen3Config(
        vocab_size=64,
        intermediate_size=128,
        max_position_embeddings=32_768,
        initializer_range=0.3,
        tie_word_embeddings=True,
        **size,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    save_tokenizer(folder, "$A <|endoftext|>", ["<unk>", "<|endoftext|>"])


def by_transformers(config: EngineConfig, ids: list[list[int]]) -> np.ndarray:
    """The vectors by the model's reference implementation, one text at a time, with the pooling written out."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(str(model_folder(config)), dtype=torch.float32).eval()
    rows = []
    with torch.no_grad():
        for numbers in ids:
            hidden = model(input_ids=torch.tensor([numbers])).last_hidden_state[0].double()
            rows.append(
                {"MEAN": hidden.mean(0), "CLS": hidden[0], "LAST": hidden[-1]}[config.pooling].numpy()
            )
    return np.array(rows)[:, : config.dimensions]


SENTENCES = [
    "tea",
    "red bicycle",
    "running shoes for the garden",
    "a pot of green tea " * 20,
    "chair lamp " * 9,
]
# Settings, texts, tokens seen of each text, and which texts were cut.
FAMILIES: dict[str, tuple[dict[str, Any], list[str], list[int], list[int]]] = {
    "bge": ({"pooling": "CLS", "max_tokens": 64}, SENTENCES, [3, 4, 7, 64, 20], [3]),
    "bge query": ({"prefix": "query : ", "max_tokens": 64}, SENTENCES, [5, 6, 9, 64, 22], [3]),
    "qwen3": ({"pooling": "LAST", "max_tokens": 128, "dimensions": 16}, SENTENCES, [2, 3, 6, 101, 19], []),
    "qwen3 long": (
        {"pooling": "LAST", "max_tokens": 30_000}, ["green tea " * 14_000, "red bicycle " * 20_000, "tea"], [28_001, 30_000, 2], [1],
    ),
}  # fmt: skip


def beside_the_reference(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, Tokens]:
    """Vectors of the engine and of the reference, and the tokens."""
    changes, texts, _, _ = FAMILIES[name]
    (save_bge if name.startswith("bge") else save_qwen3)(folder)
    config = EngineConfig(model=str(folder), dtype="float32", **changes)
    engine = load_embedder(config)
    tokens = engine.tokenise(texts)
    return engine.embed_tokens(tokens.ids), by_transformers(config, tokens.ids), tokens


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_other_model_families_give_what_their_reference_gives(tmp_path, name):
    changes, texts, counts, cut = FAMILIES[name]
    vectors, reference, tokens = in_own_process(beside_the_reference, tmp_path / name, name)
    assert vectors.shape == reference.shape == (len(texts), changes.get("dimensions", 64))
    assert cosines(vectors, reference).min() > 0.999
    assert [len(ids) for ids in tokens.ids] == counts and np.flatnonzero(tokens.truncated).tolist() == cut
    # The texts' own vectors differ by more than the tolerance.
    assert abs(cosines(reference[:1], reference[1:2])[0]) < 0.99


@pytest.mark.vllm
@pytest.mark.slow
def test_a_real_server_gives_the_vectors_of_the_engine_inside_and_dies_without_loss(tmp_path, monkeypatch):
    texts = [f"{WORDS[i % 13]} {WORDS[i % 7]} for the {WORDS[i % 11]} " * (1 + i % 20) for i in range(300)]
    inside = in_own_process(vectors_of, texts)
    monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", KEY)
    # The client waits for a server that is still starting.
    with vllm_server(free_port(), tmp_path / "server.txt") as server:
        config = EngineConfig(kind="vllm_server", endpoints=(server.url,), served_model=MODEL, timeout_s=300)
        engine = load_embedder(config)
        assert cosines(engine.embed(texts), inside).min() >= 0.999
        assert engine.model_key == model_key(EngineConfig())
        with pytest.raises(EngineError, match="401"):
            monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", "wrong")
            engine.embed(texts[:1])
        monkeypatch.setenv("NIGHTFOLD_ENGINE_KEY", KEY)
        server.kill()
        monkeypatch.setattr(engine, "_config", replace(config, timeout_s=2))
        with pytest.raises(EngineError, match=r"no server has answered for 2 s .*Connection"):
            engine.embed(texts[:1])


def vectors_of(texts: list[str]) -> np.ndarray:
    return load_embedder(EngineConfig(dtype="float32")).embed(texts)
