"""The fold of one partition: a stream of Arrow batches in, the states of each user's days out.

The stream holds first every distinct vector that the partition's events need, once; then, by user and facet,
the prior state (if any) and the events in order. Only the state is carried from event to event, so cutting a
history into days, batches or partitions changes no bit. The update itself is compiled: udfs/fold/kernel.py.
"""

from collections.abc import Iterator, Mapping

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
from udfs.fold.gate import GATE, Gate
from udfs.fold.kernel import Open, Out, Priors, Rows, Texts, emit, fold_rows, squared_norms
from udfs.fold.key_index import find_keys, index_keys
from udfs.worker_start import without_pandas

# The columns that a state takes from the last row of its day.
NAMED = ["user_id", "facet", "user_bucket", "event_ts", "event_id"]


def fold_stream(
    batches: Iterator[pa.RecordBatch], constants: Mapping[str, FoldConstants]
) -> Iterator[pa.RecordBatch]:
    """Folds one partition's stream (INPUT_SCHEMA) into states (OUTPUT_SCHEMA).

    constants: by facet, for each facet of the stream. Memory: the partition's distinct vectors and one batch.
    Raises FoldError if the stream lacks an event's vector, or if a vector is zero or of another size.
    """
    without_pandas()
    vectors: list[pa.RecordBatch] = []
    folder: _Folder | None = None
    for batch in batches:
        count = pc.sum(pc.equal(batch["kind"], VECTOR_ROW)).as_py() or 0  # vectors come first
        if count:
            vectors.append(batch.select(["text_key", "vector"]).slice(0, count))
        rows = batch.slice(count)
        if rows.num_rows:
            if folder is None:
                folder = _Folder(_TextIndex(vectors, rows), constants)
                vectors.clear()
            yield from folder.fold(rows)
    if folder:
        yield from folder.close()


class _TextIndex:
    """The distinct texts of a partition: their vectors, found by text_key."""

    def __init__(self, batches: list[pa.RecordBatch], rows: pa.RecordBatch) -> None:
        """From batches of (text_key, vector); `rows` are the first priors and events."""
        parts = [_matrix(batch["vector"]) for batch in batches]
        if len({part.shape[1] for part in parts}) > 1:
            raise FoldError(
                "the vectors of the stored texts differ in size; two models were mixed under one model_key"
            )
        keys = [batch["text_key"] for batch in batches]
        self._keys = _strings(pa.concat_arrays(keys) if keys else pa.array([], pa.string()))
        self._index = index_keys(*self._keys)
        # A valid stream without texts holds only priors, which have the same dimension.
        longest = pc.max(pc.list_value_length(rows["vector"])).as_py() or 1
        self.dim = parts[0].shape[1] if parts else longest
        vectors = _whole_lanes(np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32))
        self.texts = Texts(vectors, squared_norms(vectors))
        self.width = vectors.shape[1]
        if (self.texts.norms < TINY_SQUARE).any():
            raise FoldError("a stored text vector is zero (its norm is below 1e-12); embed its text again")

    def find(self, text_keys: pa.Array, is_event: np.ndarray) -> np.ndarray:
        """The texts' rows int64[n], -1 where there is no text.

        Raises FoldError if an event's text is not there.
        """
        found = find_keys(self._index, *self._keys, *_strings(text_keys))
        missing = int(np.count_nonzero((found < 0) & is_event))
        if missing:
            raise FoldError(f"{missing} events have a text without a vector; embed their days first")
        return np.asarray(found)

    def priors(self, rows: pa.RecordBatch) -> Priors:
        """Prior rows as the kernel takes them.

        Raises FoldError if their vectors have another size than the texts'.
        """
        if not rows.num_rows:
            return Priors.none(self.width)
        vectors = _matrix(rows["vector"])
        if vectors.shape[1] != self.dim:
            raise FoldError(
                f"a profile has {vectors.shape[1]} numbers and a text {self.dim}; "
                "two models were mixed under one model_key"
            )
        entries = rows["contributions"]
        return Priors(
            counts=_numpy(rows["event_count"]),
            sums=np.column_stack([_numpy(rows[name]) for name in ("weight_sum", "gain_sum", "gain_sq_sum")]),
            vectors=_whole_lanes(vectors),
            offsets=np.concatenate([[0], np.cumsum(_numpy(pc.list_value_length(entries)))]).astype(np.int64),
            shares=_numpy(entries.flatten().field("weight")),
            first_id=LEDGER_SIZE,
        )


class _Folder:
    """The state between the batches of a partition: the open profile, and the names behind its numbers."""

    def __init__(self, index: _TextIndex, constants: Mapping[str, FoldConstants]) -> None:
        self.index = index
        self.gates = np.array([Gate.of(own) for own in constants.values()], GATE)
        self.gate_numbers = {facet: number for number, facet in enumerate(constants)}
        self.profile = Open.empty(index.width)
        # The event ids of the open profile's ledger, whose entries the kernel knows by number.
        self.ledger_names = pa.array([""] * LEDGER_SIZE, pa.string())
        self.last: pa.RecordBatch | None = None

    def fold(self, rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Folds priors and events; yields the states of the days that ended, in one batch if there are any.

        The last day stays open, since the next batch may go on with it.
        """
        is_prior = _numpy(rows["kind"]) == PRIOR_ROW
        prior_rows = rows.filter(pa.array(is_prior))
        priors = self.index.priors(prior_rows)
        # Row 0 is the last row of the batch before, whose day may have ended there.
        named = rows.select(NAMED)
        table = pa.Table.from_batches([self.last or named.slice(0, 1), named])
        starts = _changes(table["user_id"], table["facet"])
        starts[0] |= self.last is None
        # An entry of the ledger is a number: its place in the carried ledger, then the priors' ledgers, then
        # this batch.
        prior_names = prior_rows["contributions"].flatten().field("event_id")
        names = pa.concat_arrays([self.ledger_names, prior_names, rows["event_id"]])
        given = Rows(
            starts=starts,
            kinds=_numpy(rows["kind"]),
            gates=self._gates_of(rows["facet"]),
            days=_numpy(rows["day"].view(pa.int32())),
            weights=_numpy(rows["weight"]),
            highs=_numpy(rows["digest_high"]),
            lows=_numpy(rows["digest_low"]),
            texts=self.index.find(rows["text_key"], ~is_prior),
            priors=np.cumsum(is_prior) - 1,
            first_id=LEDGER_SIZE + len(prior_names),
        )
        ends = starts | (np.diff(given.days, prepend=given.days[:1]) != 0)
        out = Out.empty(
            int(ends.sum()) + 1, self.index.width
        )  # one more: the day left open by the batch before
        emitted = fold_rows(self.profile, given, self.index.texts, priors, self.gates, out)
        if emitted:
            yield self._states(table, names, Out(out.states[:emitted], out.vectors[:emitted]))
        self._begin_batch(names, named.slice(rows.num_rows - 1))

    def _gates_of(self, facets: pa.Array) -> np.ndarray:
        """The rows int64[n] of the gates of n facets."""
        coded = facets.dictionary_encode()
        numbers = [self.gate_numbers[facet] for facet in coded.dictionary.to_pylist()]
        return np.array(numbers, np.int64).take(_numpy(coded.indices))

    def _begin_batch(self, names: pa.Array, last: pa.RecordBatch) -> None:
        """Renumbers the carried ledger from 0, and makes the last row row 0 of the next batch."""
        carry = self.profile.carry
        self.ledger_names = names.take(pa.array(carry["ledger_ids"][0]))
        carry["ledger_ids"] = np.arange(LEDGER_SIZE)
        carry["last_row"] = 0
        self.last = last

    def close(self) -> Iterator[pa.RecordBatch]:
        """The state of the partition's last day, if one is open."""
        carry, sides, previous = self.profile
        if not carry["open"][0]:
            return
        out = Out.empty(1, self.index.width)
        emit(carry[0], sides, previous, True, out.states[0], out.vectors[0])
        assert self.last is not None
        yield self._states(pa.Table.from_batches([self.last]), self.ledger_names, out)

    def _states(self, table: pa.Table, names: pa.Array, out: Out) -> pa.RecordBatch:
        """OUTPUT_SCHEMA rows of emitted states; `table` and `names` resolve their rows and ledger entries."""
        states, dim = out.states, self.index.dim
        rows = table.take(pa.array(states["row"])).combine_chunks()
        is_entry = np.arange(LEDGER_SIZE) < states["ledger_count"][:, None]
        entries = [
            names.take(pa.array(states["ledger_ids"][is_entry])),
            pa.array(states["ledger_shares"][is_entry]),
        ]
        contributions = pa.StructArray.from_arrays(entries, fields=list(CONTRIBUTIONS.value_type))
        is_first = states["previous_day"] == NO_DATE
        columns = {
            "user_id": rows["user_id"],
            "facet": rows["facet"],
            "as_of_date": _dates(states["day"]),
            "user_bucket": rows["user_bucket"],
            "event_count": pa.array(states["n"]),
            "weight_sum": pa.array(states["w"]),
            "gain_sum": pa.array(states["s1"]),
            "gain_sq_sum": pa.array(states["s2"]),
            "last_event_ts": rows["event_ts"],
            "last_event_id": rows["event_id"],
            "previous_as_of_date": _dates(states["previous_day"], is_first),
            "digest_high": pa.array(states["high"]),
            "digest_low": pa.array(states["low"]),
            "drift": pa.array(states["drift"], mask=is_first),
            "contributions": _lists(states["ledger_count"], contributions),
            "vector": _lists(np.full(len(states), dim), pa.array(out.vectors[:, :dim].ravel())),
            "relevance_acted": pa.array(states["acted"]),
            "cancelled": pa.array(states["cancelled"]),
            "day_count": pa.array(states["day_count"]),
            "is_last": pa.array(states["is_last"]),
        }
        return pa.Table.from_pydict(columns, OUTPUT_SCHEMA).combine_chunks().to_batches()[0]


def _numpy(column: pa.Array) -> np.ndarray:
    """A primitive column as NumPy; null, which other kinds of row have, becomes 0."""
    filled = pc.fill_null(column, 0) if column.null_count else column
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _strings(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int32[n + 1] and bytes uint8[...] of a column of n strings; null is the empty string."""
    _, offsets, data = column.buffers()
    if offsets is None:
        return np.frombuffer(bytes(4), np.int32), np.frombuffer(b"", np.uint8)
    places = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return places, np.frombuffer(data or b"", np.uint8)


def _matrix(column: pa.Array) -> np.ndarray:
    """A column of n vectors as float32[n, d]. Raises FoldError if their sizes differ."""
    lengths = np.unique(_numpy(pc.list_value_length(column)))
    if len(lengths) != 1 or lengths[0] == 0:
        raise FoldError("the vectors of the stream differ in size or are missing")
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(
        len(column), int(lengths[0])
    )


def _whole_lanes(vectors: np.ndarray) -> np.ndarray:
    """float32[n, d], padded with zeros to a multiple of LANES."""
    missing = -vectors.shape[1] % LANES
    return np.ascontiguousarray(np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors)


def _changes(*columns: pa.ChunkedArray) -> np.ndarray:
    """bool[n - 1]: whether each row after the first differs from the one before in any of the columns [n]."""
    changed = np.zeros(len(columns[0]) - 1, np.bool_)
    for column in columns:
        changed |= np.asarray(pc.not_equal(column.slice(1), column.slice(0, len(column) - 1)).to_numpy())
    return changed


def _dates(days: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
    return pa.array(days.astype(np.int32), pa.int32(), mask=mask).view(pa.date32())


def _lists(lengths: np.ndarray, values: pa.Array) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
