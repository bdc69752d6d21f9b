"""The embed stage of one partition: texts in, vectors or refusals out, one engine call after the other.

The texts of the next call are tokenised while the engine runs.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from udfs.engines.contract import SMALLEST_LENGTH, Embedder, EngineConfig, first_line
from udfs.engines.load import load_embedder
from udfs.errors import EngineError

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

# Special tokens that a tokenizer adds to a text: one at the start and one at the end.
SPECIAL_TOKENS: Final = 2
# Bytes of texts and vectors in one engine call; the memory of a task is a small multiple of it.
CALL_BYTES: Final = 64 << 20
# The least cosine of one text's vectors across dtypes, batches and machines; another model gives less.
SAME_MODEL_COSINE: Final = 0.999
# A text that any working engine can embed: it distinguishes a text that breaks a call from a broken engine.
PROBE: Final = "a red bicycle"


class Expected(NamedTuple):
    """What the engine must match: a model_key, and the stored vectors float32[k, d] of k texts."""

    model_key: str
    texts: Sequence[str] = ()
    vectors: np.ndarray = np.empty((0, 0), np.float32)


class Call(NamedTuple):
    """The texts of one engine call; ids[i] are the tokens of row rows[i], and the other rows were refused."""

    keys: pa.Array
    ids: list[list[int]]
    rows: list[int]
    truncated: np.ndarray
    refused: dict[int, tuple[str, str]]


def embed_stream(
    batches: Iterator[pa.RecordBatch],
    config: EngineConfig,
    expected: Expected,
    load: Callable[[EngineConfig], Embedder] = load_embedder,
) -> Iterator[pa.RecordBatch]:
    """Embeds (text_key, text) batches into OUTPUT_SCHEMA, in order.

    The engine is loaded at the first text, so an empty partition starts none. Raises EngineError if the
    engine is not the expected one, fails on any text or times out: that is not the fault of the texts, and
    none of them is refused.
    """
    filled = (batch for batch in batches if batch.num_rows)
    first = next(filled, None)
    if first is None:
        return
    embedder = load(config)
    refuse_other_model(embedder, expected)
    parts = (part for batch in _chained(first, filled) for part in cut(batch, config, embedder.dim))
    for call in ahead(parts, lambda part: prepare(embedder, part)):
        yield _to_batch(embedder, call, *embed_call(embedder, call))


def refuse_other_model(embedder: Embedder, expected: Expected) -> None:
    """Raises EngineError if this engine would write different vectors under the same key."""
    if embedder.model_key != expected.model_key:
        raise EngineError(
            f"this machine's model is {embedder.model_key}, but the job embeds with {expected.model_key}"
        )
    if not expected.texts:
        return
    # One request for each machine: they answer in turn, except those that are down.
    least = float(
        np.min(
            [
                _least_cosine(embedder.embed(expected.texts), expected.vectors)
                for _ in range(embedder.machines)
            ]
        )
    )
    if not least >= SAME_MODEL_COSINE:
        raise EngineError(
            f"the engine gives other vectors than those stored under {expected.model_key} "
            f"(cosine {least:.4f}, least {SAME_MODEL_COSINE}): its model or its settings differ"
        )


def _least_cosine(given: np.ndarray, stored: np.ndarray) -> float:
    """The least cosine of unit vectors [k, d] with the stored ones, row by row; NaN if shapes differ."""
    return float(np.min(np.sum(given * stored, axis=1))) if given.shape == stored.shape else float("nan")


def cut(batch: pa.RecordBatch, config: EngineConfig, dim: int) -> Iterator[pa.RecordBatch]:
    """Slices of the batch, one for each engine call.

    A slice has at most config.call_tokens tokens and CALL_BYTES bytes, or one text. The tokens of a text are
    bounded by its bytes plus the special tokens, and by max_tokens.
    """
    size = pc.binary_length(batch["text"]).to_numpy(zero_copy_only=False).astype(np.int64)
    tokens = np.minimum(size + len(config.prefix.encode()) + SPECIAL_TOKENS, config.max_tokens)
    cost = np.cumsum(np.maximum(tokens / config.call_tokens, (size + 4 * dim) / CALL_BYTES))
    start = 0
    while start < batch.num_rows:
        spent = cost[start - 1] if start else 0.0
        end = max(start + 1, int(np.searchsorted(cost, spent + 1, side="right")))
        yield batch.slice(start, end - start)
        start = end


def ahead(parts: Iterator[pa.RecordBatch], work: Callable[[pa.RecordBatch], Call]) -> Iterator[Call]:
    """The results of `work` in order, each computed in a thread while the caller uses the one before it."""
    with ThreadPoolExecutor(1, "tokenizer") as thread:
        pending: Future[Call] | None = None
        for part in parts:
            following = thread.submit(work, part)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()


def prepare(embedder: Embedder, part: pa.RecordBatch) -> Call:
    """Tokenises the texts of one call; a text that gives an error or no tokens is refused."""
    texts = part["text"].to_pylist()
    ids: list[list[int]] = []
    rows: list[int] = []
    truncated = np.zeros(len(texts), np.bool_)
    refused: dict[int, tuple[str, str]] = {}

    def keep(start: int, texts: Sequence[str]) -> None:
        tokens = embedder.tokenise(texts)
        for row, (numbers, was_cut) in enumerate(zip(tokens.ids, tokens.truncated, strict=True), start):
            truncated[row] = was_cut
            if numbers:
                ids.append(numbers)
                rows.append(row)
            else:
                refused[row] = ("no_tokens", "the tokenizer gives no tokens")

    for row, error in by_halves(keep, texts).items():
        refused[row] = ("engine_error", f"{type(error).__name__}: {first_line(error)}")
    return Call(part["text_key"], ids, rows, truncated, refused)


def embed_call(embedder: Embedder, call: Call) -> tuple[np.ndarray, dict[int, tuple[str, str]]]:
    """Vectors float32[n, dim] of n texts, and the (reason, message) of each refused row, which is zero."""
    vectors = np.zeros((len(call.keys), embedder.dim), np.float32)
    refused = dict(call.refused)
    wrong: dict[int, int] = {}

    def fill(start: int, ids: Sequence[list[int]]) -> None:
        given = embedder.embed_tokens(ids)
        rows = call.rows[start : start + len(ids)]
        if len(given) != len(rows):
            raise ValueError(f"the engine gave {len(given)} vectors for {len(rows)} texts")
        if given.shape[1] == embedder.dim:
            vectors[rows] = given
        else:
            wrong.update((row, int(given.shape[1])) for row in rows)

    for at, error in by_halves(fill, call.ids, lambda: embedder.embed([PROBE])).items():
        refused[call.rows[at]] = ("engine_error", f"{type(error).__name__}: {first_line(error)}")
    finite = np.logical_and.reduce(np.isfinite(vectors), axis=1)
    short = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64) < SMALLEST_LENGTH**2
    for row in call.rows:
        if row in refused:
            continue
        if row in wrong:
            refused[row] = ("wrong_size", f"the engine gave {wrong[row]} numbers instead of {embedder.dim}")
        elif not finite[row]:
            refused[row] = ("not_finite", "the engine gave a number that is not finite")
        elif short[row]:
            refused[row] = ("zero_vector", "the engine gave a zero vector")
    return vectors, refused


def by_halves(
    work: Callable[[int, Sequence[Any]], None],
    items: Sequence[Any],
    probe: Callable[[], object] = lambda: None,
) -> dict[int, Exception]:
    """Runs work(start, items[start:end]) on all items, halving a failed range down to the failing items.

    Returns the error of each failing item by its place. After each failure the probe runs: if that fails too,
    raises EngineError, since then the engine is broken and not the item.
    """
    failed: dict[int, Exception] = {}

    def attempt(start: int, end: int) -> None:
        try:
            work(start, items[start:end])
        except (EngineError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - an engine passes on whatever its libraries raise
            try:
                probe()
            except Exception as second:  # noqa: BLE001 - likewise
                raise EngineError(
                    f"the engine fails on every text: {type(second).__name__}: {first_line(second)}"
                ) from error
            if end - start == 1:
                failed[start] = error
                return
            middle = (start + end) // 2
            attempt(start, middle)
            attempt(middle, end)

    if items:
        attempt(0, len(items))
    return failed


def _to_batch(
    embedder: Embedder, call: Call, vectors: np.ndarray, refused: dict[int, tuple[str, str]]
) -> pa.RecordBatch:
    """OUTPUT_SCHEMA rows, without copying the vectors."""
    count = len(call.keys)
    is_refused = np.zeros(count, np.bool_)
    is_refused[list(refused)] = True
    counts = np.zeros(count, np.int32)
    counts[call.rows] = [len(numbers) for numbers in call.ids]
    offsets = pa.array(np.arange(0, vectors.size + 1, embedder.dim, dtype=np.int32))
    columns = [
        call.keys,
        pa.array(np.full(count, embedder.dim, np.int32), mask=is_refused),
        pa.array(counts, mask=is_refused),
        pa.array(call.truncated, mask=is_refused),
        pa.array([embedder.engine] * count),
        pa.array([embedder.dtype] * count),
        pa.array([refused[row][0] if row in refused else None for row in range(count)], pa.string()),
        pa.array([refused[row][1] if row in refused else None for row in range(count)], pa.string()),
        pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1)), mask=pa.array(is_refused)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=OUTPUT_SCHEMA)


def _chained(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest
