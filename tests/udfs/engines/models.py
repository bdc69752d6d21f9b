"""Small models of two families with random weights, their reference vectors, and a process per engine."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from udfs.engines.contract import EngineConfig
from udfs.engines.model import model_folder

WORDS = [
    "tea", "pot", "red", "bicycle", "running", "shoes", "green", "a", "the", "of", "for", "garden", "chair",
    "lamp", "query", ":",
]  # fmt: skip


def in_own_process(work: Callable[..., Any], *args: Any) -> Any:
    """Runs work in a fresh process, like a Spark worker: vLLM can't be imported where numba is loaded."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *args).result()


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine of each row [n, d] with the same row of the other matrix."""
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    return np.sum(left * right, axis=1) / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1))


def save_tokenizer(folder: Path, template: str, special: list[str]) -> None:
    """A tokenizer of whole words, with the special tokens of the model family around a text."""
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
    """A BERT with random weights, built like the BGE family: an encoder pooled at its first token."""
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
    """A Qwen3 with random weights, built like Qwen3-Embedding: a decoder pooled at its last token."""
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
    model = Qwen3Config(
        vocab_size=64,
        intermediate_size=128,
        max_position_embeddings=32_768,
        initializer_range=0.3,
        tie_word_embeddings=True,
        **size,
    )
    Qwen3ForCausalLM(model).save_pretrained(folder)
    save_tokenizer(folder, "$A <|endoftext|>", ["<unk>", "<|endoftext|>"])


def by_transformers(config: EngineConfig, ids: list[list[int]]) -> np.ndarray:
    """Vectors by the model's reference implementation, one text at a time, with the pooling written out."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(str(model_folder(config)), dtype=torch.float32).eval()
    rows = []
    with torch.no_grad():
        for numbers in ids:
            hidden = model(input_ids=torch.tensor([numbers])).last_hidden_state[0].double()
            pooled = {"MEAN": hidden.mean(0), "CLS": hidden[0], "LAST": hidden[-1]}[config.pooling]
            rows.append(pooled.numpy())
    return np.array(rows)[:, : config.dimensions]
