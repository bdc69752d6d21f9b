"""The fold: events in order, each moving its user's profile a little; compiled, streaming, and exact to the bit.

A partition arrives as one stream of Arrow batches: first every distinct vector its events need (once), then, by
user and facet, the prior state (if any) and the events in order. Nothing but the state is carried from event to
event, so cutting a history into days, batches or partitions changes no bit.

The update itself is compiled: udfs/fold/kernel.py.
"""

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from udfs.errors import FoldError
from udfs.fold.contract import (
    CONTRIBUTIONS,
    LANES,
    LEDGER_SIZE,
    NO_DATE,
    OUTPUT_SCHEMA,
    PRIOR_ROW,
    TINY_SQUARE,
    VECTOR_ROW,
    FoldConstants,
)
from udfs.worker_start import without_pandas


def fold_stream(batches: Iterator[pa.RecordBatch], constants: FoldConstants) -> Iterator[pa.RecordBatch]:
    """Folds one partition's stream (INPUT_SCHEMA) into states (OUTPUT_SCHEMA), a batch out for each batch in.

    Memory: the partition's distinct vectors and one batch. Raises FoldError where an event's vector is not in the
    stream, or a vector is zero or of another size.
    """
    from udfs.fold import (
        kernel,
    )  # here: a driver imports this module for its schemas, and the compiler takes it 0.7 s

    without_pandas()
    keys: list[pa.Array] = []
    parts: list[np.ndarray] = []
    folder: _Folder | None = None
    for batch in batches:
        first_row = pc.sum(pc.equal(batch["kind"], VECTOR_ROW)).as_py() or 0  # vectors come first
        if first_row:
            keys.append(batch["text_key"].slice(0, first_row))
            parts.append(_matrix(batch["vector"].slice(0, first_row)))
        rows = batch.slice(first_row)
        if rows.num_rows:
            folder = folder or _Folder(kernel, keys, parts, rows, constants)
            yield from folder.fold(rows)
    if folder:
        yield from folder.close()


class _Folder:
    """The open state of one partition between batches."""

    def __init__(
        self,
        kernel: ModuleType,
        keys: list[pa.Array],
        parts: list[np.ndarray],
        rows: pa.RecordBatch,
        constants: FoldConstants,
    ) -> None:
        self.kernel = kernel
        if len({part.shape[1] for part in parts}) > 1:
            raise FoldError(
                "the vectors of the stored texts differ in size; two models were mixed under one model_key"
            )
        self.keys = _strings(pa.concat_arrays(keys) if keys else pa.array([], pa.string()))
        self.index = kernel.index_keys(*self.keys)
        # Without any vector only priors can be right, and they have the size.
        dim = (
            parts[0].shape[1] if parts else max(pc.max(pc.list_value_length(rows["vector"])).as_py() or 0, 1)
        )
        self.vectors = _whole_lanes(np.concatenate(parts) if parts else np.empty((0, dim), np.float32))
        parts.clear()
        self.norms = kernel.squared_norms(self.vectors)
        if (self.norms < TINY_SQUARE).any():
            raise FoldError("a stored text vector has no length; vectors of norm below 1e-12 are refused")
        self.dim = dim
        width = self.vectors.shape[1]
        self.constants = constants.numbers()
        self.carry = np.zeros(1, kernel.CARRY)
        self.sides, self.previous = np.zeros((2, width), np.float32), np.zeros(width, np.float32)
        self.ledger_ids, self.ledger_shares = (
            np.zeros(LEDGER_SIZE, np.int64),
            np.zeros(LEDGER_SIZE, np.float32),
        )
        self.ledger_names = pa.array([""] * LEDGER_SIZE, pa.string())
        self.last: pa.RecordBatch | None = None

    def fold(self, rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        kinds = _numpy(rows["kind"])
        is_prior = kinds == PRIOR_ROW
        priors = rows.filter(pa.array(is_prior))
        days = _numpy(rows["day"].view(pa.int32()))
        vector_of = self.kernel.find_keys(self.index, *self.keys, *_strings(rows["text_key"]))
        missing = int(np.count_nonzero((vector_of < 0) & ~is_prior))
        if missing:
            raise FoldError(f"{missing} events have a text without a vector; embed their days first")
        # Row 0 stands for the last row of the batch before, so that a day that ended there can still be named.
        named = rows.select(["user_id", "facet", "user_bucket", "event_ts", "event_id"])
        table = pa.Table.from_batches([self.last or named.slice(0, 1), named])
        starts = _changes(table["user_id"], table["facet"])
        if self.last is None:
            starts[0] = True
        prior_ledgers = priors["contributions"]
        names = pa.concat_arrays(
            [self.ledger_names, prior_ledgers.flatten().field("event_id"), rows["event_id"]]
        )
        offsets = np.concatenate([[0], np.cumsum(_numpy(pc.list_value_length(prior_ledgers)))]).astype(
            np.int64
        )
        room = (
            int((starts | (np.diff(days, prepend=days[:1]) != 0)).sum()) + 1
        )  # the day that is open from the batch before
        out, out_vectors, out_ids, out_shares = self._outputs(room)
        emitted = self.kernel.fold_rows(
            self.carry, self.sides, self.previous, self.ledger_ids, self.ledger_shares,
            starts, kinds, days, _numpy(rows["weight"]), _numpy(rows["digest_high"]), _numpy(rows["digest_low"]),
            vector_of, LEDGER_SIZE + int(offsets[-1]), self.vectors, self.norms,
            np.cumsum(is_prior) - 1, _numpy(priors["event_count"]),
            np.column_stack([_numpy(priors[name]) for name in ("weight_sum", "gain_sum", "gain_sq_sum")]),
            self._prior_vectors(priors),
            offsets, _numpy(prior_ledgers.flatten().field("weight")), LEDGER_SIZE,
            *self.constants, out, out_vectors, out_ids, out_shares,
        )  # fmt: skip
        if emitted:
            yield self._states(
                table, names, out[:emitted], out_vectors[:emitted], out_ids[:emitted], out_shares[:emitted]
            )
        self.ledger_names = names.take(pa.array(self.ledger_ids))
        self.ledger_ids[:] = np.arange(LEDGER_SIZE)
        self.last = named.slice(rows.num_rows - 1)
        self.carry["last_row"] = 0

    def _prior_vectors(self, priors: pa.RecordBatch) -> np.ndarray:
        if not priors.num_rows:
            return np.empty((0, self.vectors.shape[1]), np.float32)
        found = _matrix(priors["vector"])
        if found.shape[1] != self.dim:
            raise FoldError(
                f"a profile has {found.shape[1]} numbers and a text {self.dim}; two models were mixed under one model_key"
            )
        return _whole_lanes(found)

    def close(self) -> Iterator[pa.RecordBatch]:
        """The last open day of the partition."""
        if not self.carry["open"][0]:
            return
        out, out_vectors, out_ids, out_shares = self._outputs(1)
        carried = self.carry[0], self.sides, self.previous, self.ledger_ids, self.ledger_shares
        self.kernel.emit(*carried, True, out[0], out_vectors[0], out_ids[0], out_shares[0])
        assert self.last is not None
        yield self._states(
            pa.Table.from_batches([self.last]), self.ledger_names, out, out_vectors, out_ids, out_shares
        )

    def _outputs(self, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return (
            np.zeros(rows, self.kernel.STATES),
            np.empty((rows, self.vectors.shape[1]), np.float32),
            np.zeros((rows, LEDGER_SIZE), np.int64),
            np.zeros((rows, LEDGER_SIZE), np.float32),
        )

    def _states(
        self,
        table: pa.Table,
        names: pa.Array,
        out: np.ndarray,
        vectors: np.ndarray,
        ids: np.ndarray,
        shares: np.ndarray,
    ) -> pa.RecordBatch:
        rows = table.take(pa.array(out["row"])).combine_chunks()
        kept = np.arange(LEDGER_SIZE) < out["ledger_count"][:, None]
        first = out["previous_day"] == NO_DATE
        columns = {
            "user_id": rows["user_id"],
            "facet": rows["facet"],
            "as_of_date": _dates(out["day"]),
            "user_bucket": rows["user_bucket"],
            "event_count": pa.array(out["n"]),
            "weight_sum": pa.array(out["w"]),
            "gain_sum": pa.array(out["s1"]),
            "gain_sq_sum": pa.array(out["s2"]),
            "last_event_ts": rows["event_ts"],
            "last_event_id": rows["event_id"],
            "previous_as_of_date": _dates(out["previous_day"], first),
            "digest_high": pa.array(out["high"]),
            "digest_low": pa.array(out["low"]),
            "drift": pa.array(out["drift"], mask=first),
            "contributions": _lists(
                out["ledger_count"],
                pa.StructArray.from_arrays(
                    [names.take(pa.array(ids[kept])), pa.array(shares[kept])],
                    fields=list(CONTRIBUTIONS.value_type),
                ),
            ),
            "vector": _lists(np.full(len(out), self.dim), pa.array(vectors[:, : self.dim].ravel())),
            "relevance_acted": pa.array(out["acted"]),
            "cancelled": pa.array(out["cancelled"]),
            "day_count": pa.array(out["day_count"]),
            "is_last": pa.array(out["is_last"]),
        }
        return pa.Table.from_pydict(columns, OUTPUT_SCHEMA).combine_chunks().to_batches()[0]


def _numpy(column: pa.Array) -> np.ndarray:
    """A primitive column as NumPy; nulls (of the other kinds of row) become 0."""
    filled = pc.fill_null(column, 0) if column.null_count else column
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _strings(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int32[n + 1] and bytes uint8[...] of a column of n strings; a NULL is an empty one."""
    _, offsets, data = column.buffers()
    if offsets is None:
        return np.frombuffer(bytes(4), np.int32), np.frombuffer(b"", np.uint8)
    places = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return places, np.frombuffer(data or b"", np.uint8)


def _matrix(column: pa.Array) -> np.ndarray:
    """Vectors of one size as float32[n, d]."""
    lengths = np.unique(_numpy(pc.list_value_length(column)))
    if len(lengths) != 1 or lengths[0] == 0:
        raise FoldError("the vectors of the stream differ in size or are missing")
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(
        len(column), int(lengths[0])
    )


def _whole_lanes(vectors: np.ndarray) -> np.ndarray:
    """float32[n, d] with zeros behind it up to a multiple of LANES."""
    missing = -vectors.shape[1] % LANES
    return np.ascontiguousarray(np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors)


def _changes(*columns: pa.ChunkedArray) -> np.ndarray:
    """bool[n - 1]: whether a row differs from the row before it in any of the columns [n]."""
    changed = np.zeros(len(columns[0]) - 1, np.bool_)
    for column in columns:
        changed |= np.asarray(pc.not_equal(column.slice(1), column.slice(0, len(column) - 1)).to_numpy())
    return changed


def _dates(days: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
    return pa.array(days.astype(np.int32), pa.int32(), mask=mask).view(pa.date32())


def _lists(lengths: np.ndarray, values: pa.Array) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
