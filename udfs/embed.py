"""The embed stage of one partition: texts in, vectors or refusals out, a bounded number at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from udfs.engine import Embedded, Embedder, EngineConfig, EngineError, load_embedder

OUTPUT_SCHEMA: Final = pa.schema(
    [
        pa.field("text_key", pa.string()),
        pa.field("dim", pa.int32()),
        pa.field("token_count", pa.int32()),
        pa.field("truncated", pa.bool_()),
        pa.field("engine", pa.string()),
        pa.field("dtype", pa.string()),
        pa.field("reason", pa.string()),  # null where there is a vector
        pa.field("message", pa.string()),
        pa.field("vector", pa.list_(pa.float32())),  # null where there is a reason
    ]
)

SMALLEST_NORM: Final = 1e-12

# What became of a text: its vector with the tokens seen and whether it was cut, or a reason and a message.
Result = tuple[np.ndarray, int, bool] | tuple[str, str]


def embed_stream(
    batches: Iterator[pa.RecordBatch], config: EngineConfig, load: Callable[[EngineConfig], Embedder] = load_embedder
) -> Iterator[pa.RecordBatch]:
    """Embeds (text_key, text) batches into OUTPUT_SCHEMA, in order, by calls of at most config.batch_texts texts.

    The engine is loaded at the first text, so a partition without any starts none. Raises EngineError where the engine
    fails on every text of a call: then it is not the texts' fault, and none of them is refused.
    """
    for batch in batches:
        for start in range(0, batch.num_rows, config.batch_texts):
            part = batch.slice(start, config.batch_texts)
            embedder = load(config)
            yield _to_batch(part["text_key"], embed_or_refuse(embedder, part["text"].to_pylist()), embedder)


def embed_or_refuse(embedder: Embedder, texts: Sequence[str]) -> list[Result]:
    """A result for each text; where a call fails it is halved until the texts that break it stand alone."""
    results = _bisect(embedder, texts)
    broken = [result for result in results if len(result) == 2 and result[0] == "engine_error"] if len(texts) > 1 else []
    if broken and len(broken) == len(texts):
        raise EngineError(f"the engine fails on every text: {broken[0][1]}")
    return results


def _bisect(embedder: Embedder, texts: Sequence[str]) -> list[Result]:
    try:
        embedded = embedder.embed_batch(texts)
    except (EngineError, MemoryError):
        raise
    except Exception as error:  # an engine raises what its libraries raise
        if len(texts) == 1:
            return [("engine_error", f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"[:500])]
        half = len(texts) // 2
        return _bisect(embedder, texts[:half]) + _bisect(embedder, texts[half:])
    return [_checked(embedder, embedded, row) for row in range(len(texts))]


def _checked(embedder: Embedder, embedded: Embedded, row: int) -> Result:
    """The row's vector, or why it may not enter a table."""
    vector = embedded.vectors[row]
    if vector.shape != (embedder.dim,):
        return "wrong_size", f"the engine gave {vector.shape[0]} numbers instead of {embedder.dim}"
    if not np.isfinite(vector).all():
        return "not_finite", "the engine gave a number that is not finite"
    if np.sqrt(np.dot(vector.astype(np.float64), vector.astype(np.float64))) < SMALLEST_NORM:
        return "zero_vector", "the engine gave a vector without length"
    return vector, int(embedded.token_counts[row]), bool(embedded.truncated[row])


def _to_batch(keys: pa.Array, results: Sequence[Result], embedder: Embedder) -> pa.RecordBatch:
    good = [result if len(result) == 3 else None for result in results]
    refused = [result if len(result) == 2 else None for result in results]
    columns = {
        "text_key": keys,
        "dim": [None if result is None else embedder.dim for result in good],
        "token_count": [None if result is None else result[1] for result in good],
        "truncated": [None if result is None else result[2] for result in good],
        "engine": [embedder.engine] * len(results),
        "dtype": [embedder.dtype] * len(results),
        "reason": [None if result is None else result[0] for result in refused],
        "message": [None if result is None else result[1] for result in refused],
        "vector": [None if result is None else result[0] for result in good],
    }
    return pa.RecordBatch.from_pydict(columns, OUTPUT_SCHEMA)
