"""The fold: events in order, each moving its user's profile a little; compiled, streaming, and exact to the bit.

A partition arrives as one stream of Arrow batches: first every distinct vector its events need (once), then, by
user and facet, the prior state (if any) and the events in order. Nothing but the state is carried from event to
event, so cutting a history into days, batches or partitions changes no bit.

The gate has its source in the incremental profile update p' = k p + (1 - k) v with k = alpha r + (1 - alpha) m;
here the memory term m is bounded through the effective sample size (sum k)^2 / sum k^2 (Kish, Survey Sampling, 1965).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LEDGER_SIZE: Final = 8
GATES: Final = {"effective": 0, "literal": 1, "mean": 2, "fixed": 3}
NO_DATE: Final = -(2**31)
# Squared norms below this count as zero: a cosine with them is 0, and no profile or vector may have one.
TINY_SQUARE: Final = 1e-24
# Events of a user's first days move the profile freely: the day bound holds from this count on.
BOUND_FROM_COUNT: Final = 10

VECTOR_ROW: Final = 0
PRIOR_ROW: Final = 1
EVENT_ROW: Final = 2

CONTRIBUTIONS: Final = pa.list_(pa.struct([pa.field("event_id", pa.string()), pa.field("weight", pa.float32())]))
VECTOR: Final = pa.list_(pa.float32())

# What the stream holds; rows sorted by (kind = VECTOR_ROW first), user_id, facet, kind, event_ts, event_id.
INPUT_SCHEMA: Final = pa.schema(
    [
        pa.field("kind", pa.int32()),
        pa.field("user_id", pa.string()),
        pa.field("facet", pa.string()),
        pa.field("user_bucket", pa.int32()),
        pa.field("day", pa.date32()),  # event_date of an event, as_of_date of a prior state
        pa.field("event_ts", pa.timestamp("us", tz="UTC")),
        pa.field("event_id", pa.string()),
        pa.field("weight", pa.float64()),
        pa.field("text_key", pa.string()),
        pa.field("digest_high", pa.int64()),
        pa.field("digest_low", pa.int64()),
        pa.field("event_count", pa.int64()),
        pa.field("weight_sum", pa.float64()),
        pa.field("gain_sum", pa.float64()),
        pa.field("gain_sq_sum", pa.float64()),
        pa.field("contributions", CONTRIBUTIONS),
        pa.field("vector", VECTOR),
    ]
)

OUTPUT_SCHEMA: Final = pa.schema(
    [
        pa.field("user_id", pa.string()),
        pa.field("facet", pa.string()),
        pa.field("as_of_date", pa.date32()),
        pa.field("user_bucket", pa.int32()),
        pa.field("event_count", pa.int64()),
        pa.field("weight_sum", pa.float64()),
        pa.field("gain_sum", pa.float64()),
        pa.field("gain_sq_sum", pa.float64()),
        pa.field("last_event_ts", pa.timestamp("us", tz="UTC")),
        pa.field("last_event_id", pa.string()),
        pa.field("previous_as_of_date", pa.date32()),
        pa.field("digest_high", pa.int64()),
        pa.field("digest_low", pa.int64()),
        pa.field("drift", pa.float32()),
        pa.field("contributions", CONTRIBUTIONS),
        pa.field("vector", VECTOR),
        pa.field("relevance_acted", pa.int64()),
        pa.field("cancelled", pa.int64()),
    ]
)


class FoldError(ValueError):
    """The stream can't be folded; the message is one sentence."""


@dataclass(frozen=True)
class FoldConstants:
    """The gate and its constants, as in the settings' fold section."""

    gate: str = "effective"
    relevance: str = "follow"
    alpha: float = 0.05
    k_min: float = 0.5
    k_max: float = 0.98
    max_day_share: float = 0.8

    def numbers(self) -> tuple[int, bool, float, float, float, float]:
        return GATES[self.gate], self.relevance == "resist", self.alpha, self.k_min, self.k_max, self.max_day_share


@numba.njit(cache=True, error_model="numpy")
def dot(a: Any, b: Any) -> float:
    """Inner product of two float32[d] in 8 float64 accumulators, j % 8 each, summed in a fixed tree."""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = 0.0
    whole = a.shape[0] - a.shape[0] % 8
    for j in range(0, whole, 8):
        a0 += np.float64(a[j]) * np.float64(b[j])
        a1 += np.float64(a[j + 1]) * np.float64(b[j + 1])
        a2 += np.float64(a[j + 2]) * np.float64(b[j + 2])
        a3 += np.float64(a[j + 3]) * np.float64(b[j + 3])
        a4 += np.float64(a[j + 4]) * np.float64(b[j + 4])
        a5 += np.float64(a[j + 5]) * np.float64(b[j + 5])
        a6 += np.float64(a[j + 6]) * np.float64(b[j + 6])
        a7 += np.float64(a[j + 7]) * np.float64(b[j + 7])
    rest = a.shape[0] - whole
    if rest > 0:
        a0 += np.float64(a[whole]) * np.float64(b[whole])
    if rest > 1:
        a1 += np.float64(a[whole + 1]) * np.float64(b[whole + 1])
    if rest > 2:
        a2 += np.float64(a[whole + 2]) * np.float64(b[whole + 2])
    if rest > 3:
        a3 += np.float64(a[whole + 3]) * np.float64(b[whole + 3])
    if rest > 4:
        a4 += np.float64(a[whole + 4]) * np.float64(b[whole + 4])
    if rest > 5:
        a5 += np.float64(a[whole + 5]) * np.float64(b[whole + 5])
    if rest > 6:
        a6 += np.float64(a[whole + 6]) * np.float64(b[whole + 6])
    return ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7))


@numba.njit(cache=True, error_model="numpy")
def cosine(ab: float, aa: float, bb: float) -> float:
    """Cosine from three inner products, clipped to [-1, 1]; 0 where a squared norm is below TINY_SQUARE."""
    if aa < TINY_SQUARE or bb < TINY_SQUARE:
        return 0.0
    return float(min(max(ab / (np.sqrt(aa) * np.sqrt(bb)), -1.0), 1.0))


@numba.njit(cache=True)
def squared_norms(vectors: Any) -> Any:
    """Squared norms float64[n] of float32[n, d]."""
    norms = np.empty(vectors.shape[0], np.float64)
    for i in range(vectors.shape[0]):
        norms[i] = dot(vectors[i], vectors[i])
    return norms


# One open (user, facet): what the kernel carries from row to row and from batch to batch.
_CARRY: Final = np.dtype(
    [
        ("open", np.bool_),  # events of `day` are folded in and not yet emitted
        ("n", np.int64), ("w", np.float64), ("s1", np.float64), ("s2", np.float64), ("pp", np.float64),
        ("day", np.int32), ("n_at_day_start", np.int64), ("q", np.float64),
        ("high", np.int64), ("low", np.int64), ("acted", np.int64), ("cancelled", np.int64),
        ("last_row", np.int64), ("previous_day", np.int32), ("ledger_count", np.int64),
    ]
)  # fmt: skip

_STATES: Final = np.dtype(
    [
        ("row", np.int64), ("day", np.int32), ("previous_day", np.int32),
        ("n", np.int64), ("w", np.float64), ("s1", np.float64), ("s2", np.float64),
        ("high", np.int64), ("low", np.int64), ("drift", np.float32), ("acted", np.int64), ("cancelled", np.int64),
        ("ledger_count", np.int64),
    ]
)  # fmt: skip


@numba.njit(cache=True, error_model="numpy")
def _emit(
    c: Any, p: Any, previous: Any, ledger_ids: Any, ledger_shares: Any, out: Any, out_vectors: Any, out_ids: Any, out_shares: Any
) -> None:
    """Writes the open day's state into the first row of the outputs and makes it the previous state."""
    out["row"], out["day"], out["previous_day"] = c["last_row"], c["day"], c["previous_day"]
    out["n"], out["w"], out["s1"], out["s2"] = c["n"], c["w"], c["s1"], c["s2"]
    out["high"], out["low"], out["acted"], out["cancelled"] = c["high"], c["low"], c["acted"], c["cancelled"]
    out["drift"] = np.float32(0)
    if c["previous_day"] != NO_DATE:
        out["drift"] = np.float32(1.0 - cosine(dot(p, previous), c["pp"], dot(previous, previous)))
    out_vectors[:] = p
    previous[:] = p
    out["ledger_count"] = c["ledger_count"]
    out_ids[:] = ledger_ids
    out_shares[:] = ledger_shares
    c["previous_day"] = c["day"]
    c["open"] = False


@numba.njit(cache=True, error_model="numpy")
def _remember(c: Any, ledger_ids: Any, ledger_shares: Any, g: Any, share: Any, event: int) -> None:
    """Shrinks every kept share by g and enters the event's own, largest first, the earlier first among equals."""
    count = c["ledger_count"]
    for i in range(count):
        ledger_shares[i] = g * ledger_shares[i]
    # Shrinking may round unequal shares to equal ones but never swaps them, so only the new entry moves.
    place = count
    while place > 0 and ledger_shares[place - 1] < share:
        place -= 1
    if place >= LEDGER_SIZE:
        return
    if count < LEDGER_SIZE:
        count += 1
    for i in range(count - 1, place, -1):
        ledger_ids[i] = ledger_ids[i - 1]
        ledger_shares[i] = ledger_shares[i - 1]
    ledger_ids[place] = event
    ledger_shares[place] = share
    c["ledger_count"] = count


@numba.njit(cache=True, error_model="numpy")
def fold_rows(
    carry: Any, p: Any, previous: Any, ledger_ids: Any, ledger_shares: Any,
    starts: Any, kinds: Any, days: Any, weights: Any, highs: Any, lows: Any, vector_of: Any, first_event_id: int,
    vectors: Any, norms: Any,
    prior_of: Any, prior_counts: Any, prior_sums: Any, prior_vectors: Any, prior_offsets: Any, prior_shares: Any, first_prior_id: int,
    gate: int, resist: bool, alpha: float, k_min: float, k_max: float, max_day_share: float,
    out: Any, out_vectors: Any, out_ids: Any, out_shares: Any,
) -> int:  # fmt: skip
    """Folds rows [n] in order into the carried state; returns how many states were written to the outputs.

    starts bool[n]: a new (user, facet) begins; kinds int32[n]; days int32[n] (days since the epoch); weights float64[n];
    vector_of int64[n]: row of `vectors` float32[m, d] for events; prior_of int64[n]: row of the prior_* arrays for
    prior states. Ids of the ledger are numbers: first_prior_id + k and first_event_id + row.
    """
    c = carry[0]
    emitted = 0
    for i in range(kinds.shape[0]):
        if c["open"] and (starts[i] or days[i] != c["day"]):
            _emit(c, p, previous, ledger_ids, ledger_shares, out[emitted], out_vectors[emitted], out_ids[emitted], out_shares[emitted])
            emitted += 1
        if starts[i]:
            c["n"] = 0
            c["previous_day"] = NO_DATE
            c["day"] = NO_DATE
            c["ledger_count"] = 0
        if kinds[i] == PRIOR_ROW:
            k = prior_of[i]
            c["n"] = prior_counts[k]
            c["w"], c["s1"], c["s2"] = prior_sums[k, 0], prior_sums[k, 1], prior_sums[k, 2]
            c["previous_day"] = days[i]
            p[:] = prior_vectors[k]
            previous[:] = p
            c["pp"] = dot(p, p)
            c["ledger_count"] = prior_offsets[k + 1] - prior_offsets[k]
            for j in range(c["ledger_count"]):
                ledger_ids[j] = first_prior_id + prior_offsets[k] + j
                ledger_shares[j] = prior_shares[prior_offsets[k] + j]
            continue
        if not c["open"]:
            c["open"] = True
            c["day"] = days[i]
            c["n_at_day_start"] = c["n"]
            c["q"] = 1.0
            c["high"] = 0
            c["low"] = 0
            c["acted"] = 0
            c["cancelled"] = 0
        c["high"] ^= highs[i]
        c["low"] ^= lows[i]
        c["last_row"] = i + 1  # row 0 of the row table is the last one of the batch before
        v = vectors[vector_of[i]]
        w = weights[i]
        if c["n"] == 0:
            p[:] = v
            c["pp"] = norms[vector_of[i]]
            c["n"], c["w"], c["s1"], c["s2"] = 1, w, 0.0, 0.0
            ledger_ids[0] = first_event_id + i
            ledger_shares[0] = np.float32(1.0)
            c["ledger_count"] = 1
            continue
        fair = c["w"] / (c["w"] + w)
        acted = False
        if gate == 2:
            g = fair
        else:
            s1, s2 = c["s1"], c["s2"]
            if gate == 3 or (gate == 1 and s2 == 0.0):
                k = k_max
            else:
                r = (1.0 + cosine(dot(p, v), c["pp"], norms[vector_of[i]])) / 2.0
                if resist:
                    r = 1.0 - r
                if gate == 1:
                    m = s1 / s2
                else:
                    e = 1.0 if s2 == 0.0 else 1.0 + s1 * s1 / s2
                    m = e / (e + 1.0)
                k = alpha * r + (1.0 - alpha) * m
                acted = k_min < k < k_max
                k = min(max(k, k_min), k_max)
            c["s1"] = s1 + k
            c["s2"] = s2 + k * k
            kept = 1.0 - w * (1.0 - k)
            acted = acted and kept <= fair
            g = min(kept, fair)
        if c["n_at_day_start"] >= BOUND_FROM_COUNT:
            bound = (1.0 - max_day_share) / c["q"]
            if bound > g:
                g = bound
                acted = False
        c["w"] += w
        c["n"] += 1
        gf = np.float32(g)
        hf = np.float32(1.0 - g)
        # The new profile is built beside the old one: an update that cancels it out leaves the old one standing.
        moved = out_vectors[out_vectors.shape[0] - 1]
        for j in range(p.shape[0]):
            moved[j] = gf * p[j] + hf * v[j]
        pp = dot(moved, moved)
        c["acted"] += acted
        if np.sqrt(pp) < 1e-12:
            c["cancelled"] += 1
            continue
        p[:] = moved
        c["pp"] = pp
        c["q"] *= g
        _remember(c, ledger_ids, ledger_shares, gf, hf, first_event_id + i)
    return emitted


def fold_stream(batches: Iterator[pa.RecordBatch], constants: FoldConstants) -> Iterator[pa.RecordBatch]:
    """Folds one partition's stream (INPUT_SCHEMA) into states (OUTPUT_SCHEMA), a batch out for each batch in.

    Memory: the partition's distinct vectors and one batch. Raises FoldError where an event's vector is not in the
    stream, or a vector is zero or of another size.
    """
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
            folder = folder or _Folder(keys, parts, rows, constants)
            yield from folder.fold(rows)
    if folder:
        yield from folder.close()


class _Folder:
    """The open state of one partition between batches."""

    def __init__(self, keys: list[pa.Array], parts: list[np.ndarray], rows: pa.RecordBatch, constants: FoldConstants) -> None:
        if len({part.shape[1] for part in parts}) > 1:
            raise FoldError("the vectors of the stored texts differ in size; two models were mixed under one model_key")
        self.keys = pa.concat_arrays(keys) if keys else pa.array([], pa.string())
        dim = parts[0].shape[1] if parts else len(rows["vector"][0])
        self.vectors = np.concatenate(parts) if parts else np.empty((0, dim), np.float32)
        parts.clear()
        self.norms = squared_norms(self.vectors)
        if (self.norms < TINY_SQUARE).any():
            raise FoldError("a stored text vector has no length; vectors of norm below 1e-12 are refused")
        self.dim = dim
        self.constants = constants.numbers()
        self.carry = np.zeros(1, _CARRY)
        self.p, self.previous = np.zeros(dim, np.float32), np.zeros(dim, np.float32)
        self.ledger_ids, self.ledger_shares = np.zeros(LEDGER_SIZE, np.int64), np.zeros(LEDGER_SIZE, np.float32)
        self.ledger_names = pa.array([""] * LEDGER_SIZE, pa.string())
        self.last: pa.RecordBatch | None = None

    def fold(self, rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        kinds = _numpy(rows["kind"])
        is_prior = kinds == PRIOR_ROW
        priors = rows.filter(pa.array(is_prior))
        days = _numpy(rows["day"].view(pa.int32()))
        vector_of = np.full(rows.num_rows, -1, np.int64)
        found = pc.index_in(rows["text_key"], value_set=self.keys, skip_nulls=True)
        missing = pc.sum(pc.and_(found.is_null(), pa.array(~is_prior))).as_py() or 0
        if missing:
            raise FoldError(f"{missing} events have a text without a vector; embed their days first")
        vector_of[~is_prior] = _numpy(found.drop_null())
        # Row 0 stands for the last row of the batch before, so that a day that ended there can still be named.
        named = rows.select(["user_id", "facet", "user_bucket", "event_ts", "event_id"])
        table = pa.Table.from_batches([self.last or named.slice(0, 1), named])
        starts = _changes(table["user_id"], table["facet"])
        if self.last is None:
            starts[0] = True
        prior_ledgers = priors["contributions"]
        names = pa.concat_arrays([self.ledger_names, prior_ledgers.flatten().field("event_id"), rows["event_id"]])
        offsets = np.concatenate([[0], np.cumsum(_numpy(pc.list_value_length(prior_ledgers)))]).astype(np.int64)
        room = int((starts | (np.diff(days, prepend=days[:1]) != 0)).sum()) + 2  # one is the kernel's scratch row
        out, out_vectors, out_ids, out_shares = self._outputs(room)
        emitted = fold_rows(
            self.carry, self.p, self.previous, self.ledger_ids, self.ledger_shares,
            starts, kinds, days, _numpy(rows["weight"]), _numpy(rows["digest_high"]), _numpy(rows["digest_low"]),
            vector_of, LEDGER_SIZE + int(offsets[-1]), self.vectors, self.norms,
            np.cumsum(is_prior) - 1, _numpy(priors["event_count"]),
            np.column_stack([_numpy(priors[name]) for name in ("weight_sum", "gain_sum", "gain_sq_sum")]),
            _matrix(priors["vector"]) if priors.num_rows else np.empty((0, self.dim), np.float32),
            offsets, _numpy(prior_ledgers.flatten().field("weight")), LEDGER_SIZE,
            *self.constants, out, out_vectors, out_ids, out_shares,
        )  # fmt: skip
        if emitted:
            yield self._states(table, names, out[:emitted], out_vectors[:emitted], out_ids[:emitted], out_shares[:emitted])
        self.ledger_names = names.take(pa.array(self.ledger_ids))
        self.ledger_ids[:] = np.arange(LEDGER_SIZE)
        self.last = named.slice(rows.num_rows - 1)
        self.carry["last_row"] = 0

    def close(self) -> Iterator[pa.RecordBatch]:
        """The last open day of the partition."""
        if not self.carry["open"][0]:
            return
        out, out_vectors, out_ids, out_shares = self._outputs(1)
        _emit(self.carry[0], self.p, self.previous, self.ledger_ids, self.ledger_shares, out[0], out_vectors[0], out_ids[0], out_shares[0])
        assert self.last is not None
        yield self._states(pa.Table.from_batches([self.last]), self.ledger_names, out, out_vectors, out_ids, out_shares)

    def _outputs(self, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return (
            np.zeros(rows, _STATES),
            np.empty((rows, self.dim), np.float32),
            np.zeros((rows, LEDGER_SIZE), np.int64),
            np.zeros((rows, LEDGER_SIZE), np.float32),
        )

    def _states(
        self, table: pa.Table, names: pa.Array, out: np.ndarray, vectors: np.ndarray, ids: np.ndarray, shares: np.ndarray
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
                    [names.take(pa.array(ids[kept])), pa.array(shares[kept])], fields=list(CONTRIBUTIONS.value_type)
                ),
            ),
            "vector": _lists(np.full(len(out), self.dim), pa.array(vectors.ravel())),
            "relevance_acted": pa.array(out["acted"]),
            "cancelled": pa.array(out["cancelled"]),
        }
        return pa.Table.from_pydict(columns, OUTPUT_SCHEMA).combine_chunks().to_batches()[0]


def _numpy(column: pa.Array) -> np.ndarray:
    """A primitive column as NumPy; nulls (of the other kinds of row) become 0."""
    filled = pc.fill_null(column, 0) if column.null_count else column
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _matrix(column: pa.Array) -> np.ndarray:
    """Vectors of one size as float32[n, d]."""
    lengths = np.unique(_numpy(pc.list_value_length(column)))
    if len(lengths) != 1 or lengths[0] == 0:
        raise FoldError("the vectors of the stream differ in size or are missing")
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(len(column), int(lengths[0]))


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
