"""The compiled part of the fold: rows in order into the carried state. Apart from udfs/fold.py, since a driver need not load a compiler.

The gate has its source in the incremental profile update p' = k p + (1 - k) v with k = alpha r + (1 - alpha) m;
here the memory term m is bounded through the effective sample size (sum k)^2 / sum k^2 (Kish, Survey Sampling, 1965).
"""

from typing import Any, Final

import numba
import numpy as np

from udfs.fold.contract import BOUND_FROM_COUNT, LEDGER_SIZE, NO_DATE, PRIOR_ROW, TINY_SQUARE
from udfs.fold.lanes import blend, dot

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
