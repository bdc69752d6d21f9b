"""Vectors of texts by the packaged model, without vLLM: mean-pooled and of length 1, kept in a file.

Generated logs have a bag of words, which is enough for their topics and takes no time.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.udfs.engines.configs import config
from udfs.engines.load import load_embedder
from udfs.engines.model import load_tokenizer, model_folder, tokenise

BATCH = 64


def vectors_of(texts: Sequence[str], folder: Path, name: str) -> NDArray[np.float32]:
    """float32[texts, 384]; read from the folder where they are there already."""
    file, list_file = folder / f"{name}.npy", folder / f"{name}.txt"
    listed = "\n".join(texts)
    if file.exists() and list_file.read_text("utf-8") == listed:
        return np.asarray(np.load(file), np.float32)
    found = embedded(texts)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(file, found)
    list_file.write_text(listed, "utf-8")
    return found


def bags_of(texts: Sequence[str]) -> NDArray[np.float32]:
    """float32[texts, 384] by the engine `hash`."""
    engine = load_embedder(config(kind="hash", hash_dimensions=384))
    return np.asarray(engine.embed(list(texts)), np.float32)


def embedded(texts: Sequence[str]) -> NDArray[np.float32]:
    """float32[texts, d], shortest texts first, so that little is padded."""
    import torch
    from transformers import AutoModel

    engine = config()
    model = AutoModel.from_pretrained(str(model_folder(engine)), local_files_only=True).eval()
    ids = tokenise(load_tokenizer(engine), engine, texts).ids
    order = sorted(range(len(texts)), key=lambda row: len(ids[row]))
    found = np.zeros((len(texts), model.config.hidden_size), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            longest = max(len(ids[row]) for row in rows)
            tokens = torch.zeros((len(rows), longest), dtype=torch.long)
            mask = torch.zeros_like(tokens)
            for place, row in enumerate(rows):
                tokens[place, : len(ids[row])] = torch.tensor(ids[row])
                mask[place, : len(ids[row])] = 1
            states = model(input_ids=tokens, attention_mask=mask).last_hidden_state
            pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            found[rows] = torch.nn.functional.normalize(pooled, dim=1).numpy()
    return found
