"""The compiled part of the fold: rows in order into the carried state. Apart from udfs/fold.py, since a driver need not load a compiler.

The gate has its source in the incremental profile update p' = k p + (1 - k) v with k = alpha r + (1 - alpha) m;
here the memory term m is bounded through the effective sample size (sum k)^2 / sum k^2 (Kish, Survey Sampling, 1965).
"""

from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba.core.cgutils import alloca_once_value, for_range
from numba.extending import intrinsic

from udfs.fold import BOUND_FROM_COUNT, LANES, LEDGER_SIZE, NO_DATE, PRIOR_ROW, TINY_SQUARE

# ---- the two loops over a vector, in the compiler's own language, eight numbers at a time
#
# LLVM does not see by itself that eight running sums are one vector: a scalar product of 384 numbers took it 300 ns, and takes 60 so.
# It may use registers of any width, but neither reorder sums nor fuse a product with a sum, since no flag allows it: the bits are
# those of the plain loop on every machine.

_F32: Final = ir.VectorType(ir.FloatType(), LANES)
_F64: Final = ir.VectorType(ir.DoubleType(), LANES)


def _lanes(builder: Any, array: Any, offset: Any) -> Any:
    """The address of eight numbers of an array."""
    return builder.bitcast(builder.gep(array.data, [offset]), _F32.as_pointer())


def _summed(builder: Any, length: Any, terms: Callable[[Any], Any]) -> Any:
    """Adds up terms(offset), eight float64 for each eight numbers, in ascending order; then the eight sums in a fixed tree."""
    sums = alloca_once_value(builder, ir.Constant(_F64, [0.0] * LANES))
    with for_range(builder, builder.udiv(length, length.type(LANES))) as loop:
        at = builder.mul(loop.index, length.type(LANES))
        builder.store(builder.fadd(builder.load(sums), terms(at)), sums)
    tree = [builder.extract_element(builder.load(sums), ir.IntType(32)(lane)) for lane in range(LANES)]
    while len(tree) > 1:
        tree = [builder.fadd(left, right) for left, right in zip(tree[::2], tree[1::2], strict=True)]
    return tree[0]


@intrinsic
def dot(typing: Any, a: Any, b: Any) -> Any:
    """Inner product, float64, of two contiguous float32[d], d a multiple of 8: 8 float64 accumulators, j % 8 each, and a fixed tree."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y = (context.make_array(kind)(context, builder, arg) for kind, arg in zip(signature.args, args, strict=True))

        def terms(at: Any) -> Any:
            left, right = (builder.fpext(builder.load(_lanes(builder, array, at), align=4), _F64) for array in (x, y))
            return builder.fmul(left, right)

        return _summed(builder, builder.extract_value(x.shape, 0), terms)

    return numba.float64(a, b), code


@intrinsic
def blend(typing: Any, g: Any, p: Any, h: Any, v: Any, moved: Any) -> Any:
    """Writes g*p + h*v into moved, three rounded float32 operations for each number; returns dot(moved, moved)."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kept, share = (ir.Constant(_F32, ir.Undefined), ir.Constant(_F32, ir.Undefined))
        for lane in range(LANES):
            kept = builder.insert_element(kept, args[0], ir.IntType(32)(lane))
            share = builder.insert_element(share, args[2], ir.IntType(32)(lane))
        x, y, z = (context.make_array(signature.args[i])(context, builder, args[i]) for i in (1, 3, 4))

        def terms(at: Any) -> Any:
            old, new = (builder.load(_lanes(builder, array, at), align=4) for array in (x, y))
            both = builder.fadd(builder.fmul(kept, old), builder.fmul(share, new))
            builder.store(both, _lanes(builder, z, at), align=4)
            wide = builder.fpext(both, _F64)
            return builder.fmul(wide, wide)

        return _summed(builder, builder.extract_value(x.shape, 0), terms)

    return numba.float64(g, p, h, v, moved), code


# ---- the fold


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


# ---- which vector a text has
#
# pyarrow's index_in makes its table anew at every call: with 125,000 texts of a task it took more than half of the fold's time.

HASHED_LETTERS: Final = 16


@numba.njit(cache=True)
def _slot(table: Any, offsets: Any, data: Any, wanted: Any, start: int, stop: int) -> int:
    """Where a key stands in the open-addressed table, or the free place for it; the key is wanted[start:stop]."""
    key = wanted[start:stop]
    mixed = np.uint64(14695981039346656037)  # FNV-1a, of letters that tell digests apart
    for j in range(min(key.shape[0], HASHED_LETTERS)):
        mixed = (mixed ^ np.uint64(key[j])) * np.uint64(1099511628211)
    slot = np.int64(mixed & np.uint64(table.shape[0] - 1))
    while table[slot] >= 0:
        other = data[offsets[table[slot]] : offsets[table[slot] + 1]]
        if other.shape[0] == key.shape[0]:
            # All of them, without a way out of the loop: so the compiler compares many at a time.
            differ = np.uint8(0)
            for j in range(key.shape[0]):
                differ |= other[j] ^ key[j]
            if differ == 0:
                break
        slot = (slot + 1) & (table.shape[0] - 1)
    return int(slot)


@numba.njit(cache=True)
def index_keys(offsets: Any, data: Any) -> Any:
    """A table of n strings, the i-th is data[offsets[i]:offsets[i + 1]] (int32[n + 1], uint8[...]); of equal ones the first counts."""
    size = 2
    while size < 2 * offsets.shape[0]:
        size *= 2
    table = np.full(size, -1, np.int32)
    for i in range(offsets.shape[0] - 1):
        slot = _slot(table, offsets, data, data, offsets[i], offsets[i + 1])
        if table[slot] < 0:
            table[slot] = i
    return table


@numba.njit(cache=True)
def find_keys(table: Any, offsets: Any, data: Any, wanted_offsets: Any, wanted: Any) -> Any:
    """The places int64[m] of m strings among the table's, -1 where one is not there."""
    found = np.empty(wanted_offsets.shape[0] - 1, np.int64)
    for i in range(found.shape[0]):
        found[i] = table[_slot(table, offsets, data, wanted, wanted_offsets[i], wanted_offsets[i + 1])]
    return found


# ---- the carried state

# One open (user, facet): what the kernel carries from row to row and from batch to batch.
CARRY: Final = np.dtype(
    [
        ("open", np.bool_),  # events of `day` are folded in and not yet emitted
        ("n", np.int64), ("w", np.float64), ("s1", np.float64), ("s2", np.float64), ("pp", np.float64),
        ("day", np.int32), ("n_at_day_start", np.int64), ("q", np.float64),
        ("high", np.int64), ("low", np.int64), ("acted", np.int64), ("cancelled", np.int64),
        ("last_row", np.int64), ("previous_day", np.int32), ("ledger_count", np.int64),
        ("side", np.int64),  # which row of `sides` is the profile; the other is free
    ]
)  # fmt: skip

STATES: Final = np.dtype(
    [
        ("row", np.int64), ("day", np.int32), ("previous_day", np.int32),
        ("n", np.int64), ("w", np.float64), ("s1", np.float64), ("s2", np.float64),
        ("high", np.int64), ("low", np.int64), ("drift", np.float32), ("acted", np.int64), ("cancelled", np.int64),
        ("ledger_count", np.int64), ("day_count", np.int64), ("is_last", np.bool_),
    ]
)  # fmt: skip


@numba.njit(cache=True, error_model="numpy")
def emit(
    c: Any, sides: Any, previous: Any, ledger_ids: Any, ledger_shares: Any, is_last: bool,
    out: Any, out_vectors: Any, out_ids: Any, out_shares: Any,
) -> None:  # fmt: skip
    """Writes the open day's state into one row of the outputs and makes it the previous state; is_last: its user's and facet's last."""
    p = sides[c["side"]]
    out["row"], out["day"], out["previous_day"] = c["last_row"], c["day"], c["previous_day"]
    out["n"], out["w"], out["s1"], out["s2"] = c["n"], c["w"], c["s1"], c["s2"]
    out["high"], out["low"], out["acted"], out["cancelled"] = c["high"], c["low"], c["acted"], c["cancelled"]
    out["drift"] = np.float32(0)
    if c["previous_day"] != NO_DATE:
        out["drift"] = np.float32(1.0 - cosine(dot(p, previous), c["pp"], dot(previous, previous)))
    out["day_count"], out["is_last"] = c["n"] - c["n_at_day_start"], is_last
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
    carry: Any, sides: Any, previous: Any, ledger_ids: Any, ledger_shares: Any,
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
            written = out[emitted], out_vectors[emitted], out_ids[emitted], out_shares[emitted]
            emit(c, sides, previous, ledger_ids, ledger_shares, starts[i], *written)
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
            previous[:] = prior_vectors[k]
            sides[c["side"]] = previous
            c["pp"] = dot(previous, previous)
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
        p = sides[c["side"]]
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
        pp = blend(gf, p, hf, v, sides[1 - c["side"]])
        c["acted"] += acted
        if np.sqrt(pp) < 1e-12:
            c["cancelled"] += 1
            continue
        c["side"] = 1 - c["side"]
        c["pp"] = pp
        c["q"] *= g
        _remember(c, ledger_ids, ledger_shares, gf, hf, first_event_id + i)
    return emitted
