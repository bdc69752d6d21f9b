"""The compiled part of the fold: rows in order, folded into the profile that is open.

A driver needs only udfs/fold/contract.py; this module loads the compiler, which takes 0.7 s.
"""

from typing import Any, Final, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from udfs.fold.contract import (
    EFFECTIVE,
    LEDGER_SIZE,
    LITERAL,
    MEAN,
    NO_DATE,
    PRIOR_ROW,
    TINY_NORM,
    TINY_SQUARE,
)
from udfs.fold.gate import Gate, day_floor, gain, gate_at, remaining, retained_share
from udfs.fold.lanes import blend, dot

# ---- the arrays that the kernel reads and writes

# The scalars of the open (user, facet), which the kernel carries from row to row and from batch to batch.
CARRY: Final = np.dtype(
    [
        ("open", np.bool_),  # events of `day` are folded in and not yet emitted
        ("n", np.int64), ("w", np.float64), ("s1", np.float64), ("s2", np.float64), ("pp", np.float64),
        ("day", np.int32), ("n_at_day_start", np.int64), ("q", np.float64),
        ("high", np.int64), ("low", np.int64), ("acted", np.int64), ("cancelled", np.int64),
        ("last_row", np.int64), ("previous_day", np.int32), ("ledger_count", np.int64),
        ("ledger_ids", np.int64, LEDGER_SIZE), ("ledger_shares", np.float32, LEDGER_SIZE),
        ("side", np.int64),  # which row of `sides` is the profile; the other row is free
    ]
)  # fmt: skip

STATES: Final = np.dtype(
    [
        ("row", np.int64), ("day", np.int32), ("previous_day", np.int32),
        ("n", np.int64), ("w", np.float64), ("s1", np.float64), ("s2", np.float64),
        ("high", np.int64), ("low", np.int64), ("drift", np.float32), ("acted", np.int64),
        ("cancelled", np.int64), ("ledger_count", np.int64),
        ("ledger_ids", np.int64, LEDGER_SIZE), ("ledger_shares", np.float32, LEDGER_SIZE),
        ("day_count", np.int64), ("is_last", np.bool_),
    ]
)  # fmt: skip


class Rows(NamedTuple):
    """One batch of n rows in order. The ledger names the event of row i by the number first_id + i."""

    starts: NDArray[np.bool_]  # [n]: a new (user, facet) begins
    kinds: NDArray[np.int32]  # [n]: PRIOR_ROW or EVENT_ROW
    gates: NDArray[np.int64]  # [n]: row of the facet's gate
    days: NDArray[np.int32]  # [n]: days since the epoch
    weights: NDArray[np.float64]  # [n]
    highs: NDArray[np.int64]  # [n]: the event's digest, in two halves
    lows: NDArray[np.int64]  # [n]
    texts: NDArray[np.int64]  # [n]: row of Texts, for events
    priors: NDArray[np.int64]  # [n]: row of Priors, for prior states
    first_id: int


class Texts(NamedTuple):
    """The m distinct text vectors of a partition."""

    vectors: NDArray[np.float32]  # [m, d], d a multiple of LANES
    norms: NDArray[np.float64]  # [m]: their squared norms


class Priors(NamedTuple):
    """The k prior states of a batch.

    Prior i has the ledger entries offsets[i]:offsets[i + 1], numbered from first_id.
    """

    counts: NDArray[np.int64]  # [k]
    sums: NDArray[np.float64]  # [k, 3]: W, S1, S2
    vectors: NDArray[np.float32]  # [k, d]
    offsets: NDArray[np.int64]  # [k + 1]
    shares: NDArray[np.float32]  # [offsets[k]]
    first_id: int

    @classmethod
    def none(cls, d: int) -> "Priors":
        """No prior state."""
        sums, vectors, shares = np.empty((0, 3)), np.empty((0, d), np.float32), np.empty(0, np.float32)
        return cls(np.empty(0, np.int64), sums, vectors, np.zeros(1, np.int64), shares, LEDGER_SIZE)


class Open(NamedTuple):
    """The open (user, facet): its profile and sums, updated in place."""

    carry: NDArray[np.void]  # CARRY[1]
    sides: NDArray[np.float32]  # [2, d]: the profile, and room for the next one
    previous: NDArray[np.float32]  # [d]: the state before the open day

    @classmethod
    def empty(cls, d: int) -> "Open":
        """Nothing open."""
        return cls(np.zeros(1, CARRY), np.zeros((2, d), np.float32), np.zeros(d, np.float32))


class Out(NamedTuple):
    """Room for r states."""

    states: NDArray[np.void]  # STATES[r]
    vectors: NDArray[np.float32]  # [r, d]

    @classmethod
    def empty(cls, r: int, d: int) -> "Out":
        """Room for r states of d numbers."""
        return cls(np.zeros(r, STATES), np.empty((r, d), np.float32))


# ---- two inner products


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


# ---- what becomes of the open profile


@numba.njit(cache=True, error_model="numpy")
def emit(c: Any, sides: Any, previous: Any, is_last: bool, state: Any, vector: Any) -> None:
    """Writes the state of the open day to `state` and `vector`, and makes it the previous state.

    is_last: it is the last state of its user and facet.
    """
    p = sides[c["side"]]
    state["row"], state["day"], state["previous_day"] = c["last_row"], c["day"], c["previous_day"]
    state["n"], state["w"], state["s1"], state["s2"] = c["n"], c["w"], c["s1"], c["s2"]
    state["high"], state["low"] = c["high"], c["low"]
    state["acted"], state["cancelled"] = c["acted"], c["cancelled"]
    state["drift"] = np.float32(0)
    if c["previous_day"] != NO_DATE:
        state["drift"] = np.float32(1.0 - cosine(dot(p, previous), c["pp"], dot(previous, previous)))
    state["day_count"], state["is_last"] = c["n"] - c["n_at_day_start"], is_last
    state["ledger_count"] = c["ledger_count"]
    state["ledger_ids"][:] = c["ledger_ids"]
    state["ledger_shares"][:] = c["ledger_shares"]
    vector[:] = p
    previous[:] = p
    c["previous_day"] = c["day"]
    c["open"] = False


@numba.njit(cache=True, error_model="numpy")
def _begin_facet(c: Any) -> None:
    """A (user, facet) without any event."""
    c["n"] = 0
    c["previous_day"] = NO_DATE
    c["day"] = NO_DATE
    c["ledger_count"] = 0


@numba.njit(cache=True, error_model="numpy")
def _restore_prior(c: Any, sides: Any, previous: Any, priors: Priors, k: int, day: int) -> None:
    """Makes prior k, the state of `day`, the open profile."""
    c["n"] = priors.counts[k]
    c["w"], c["s1"], c["s2"] = priors.sums[k, 0], priors.sums[k, 1], priors.sums[k, 2]
    c["previous_day"] = day
    previous[:] = priors.vectors[k]
    sides[c["side"]] = previous
    c["pp"] = dot(previous, previous)
    start = priors.offsets[k]
    c["ledger_count"] = priors.offsets[k + 1] - start
    for j in range(c["ledger_count"]):
        c["ledger_ids"][j] = priors.first_id + start + j
        c["ledger_shares"][j] = priors.shares[start + j]


@numba.njit(cache=True, error_model="numpy")
def _begin_day(c: Any, day: int, gate: Gate) -> None:
    """Opens a day; the weight of the days before it decays by the days since the last event."""
    if c["n"] > 0:
        c["w"] *= remaining(day - c["previous_day"], gate.half_life_days)
    c["open"] = True
    c["day"] = day
    c["n_at_day_start"] = c["n"]
    c["q"] = 1.0
    c["high"] = 0
    c["low"] = 0
    c["acted"] = 0
    c["cancelled"] = 0


@numba.njit(cache=True, error_model="numpy")
def _begin_profile(c: Any, p: Any, v: Any, vv: float, w: float, event: int) -> None:
    """The first event of a (user, facet) is its profile."""
    p[:] = v
    c["pp"] = vv
    c["n"], c["w"], c["s1"], c["s2"] = 1, w, 0.0, 0.0
    c["ledger_ids"][0] = event
    c["ledger_shares"][0] = np.float32(1.0)
    c["ledger_count"] = 1


@numba.njit(cache=True, error_model="numpy")
def _remember(c: Any, g: Any, share: Any, event: int) -> None:
    """Shrinks every share in the ledger by g and enters the event's own.

    The largest come first and, among equals, the earliest.
    """
    count, ids, shares = c["ledger_count"], c["ledger_ids"], c["ledger_shares"]
    for i in range(count):
        shares[i] = g * shares[i]
    # Shrinking may round unequal shares to equal ones but never swaps them, so only the new entry moves.
    place = count
    while place > 0 and shares[place - 1] < share:
        place -= 1
    if place >= LEDGER_SIZE:
        return
    if count < LEDGER_SIZE:
        count += 1
    for i in range(count - 1, place, -1):
        ids[i] = ids[i - 1]
        shares[i] = shares[i - 1]
    ids[place] = event
    shares[place] = share
    c["ledger_count"] = count


@numba.njit(cache=True, error_model="numpy")
def _move_profile(c: Any, sides: Any, gate: Gate, v: Any, vv: float, w: float, event: int) -> None:
    """Every later event: p = g*p + (1 - g)*v, and the sums. An update that gives a zero vector leaves p."""
    p = sides[c["side"]]
    needs_cosine = gate.kind == EFFECTIVE or (gate.kind == LITERAL and c["s2"] > 0.0)
    k, by_formula = gain(gate, cosine(dot(p, v), c["pp"], vv) if needs_cosine else 0.0, c["s1"], c["s2"])
    least = day_floor(c["n_at_day_start"], c["q"], gate.max_day_share)
    g, by_gain = retained_share(k, w, c["w"], least)
    if gate.kind != MEAN:
        c["s1"] += k
        c["s2"] += k * k
    c["w"] += w
    c["n"] += 1
    c["acted"] += by_formula and by_gain
    kept, share = np.float32(g), np.float32(1.0 - g)
    # Into the free side, so that a cancelled update leaves the profile as it was.
    pp = blend(kept, p, share, v, sides[1 - c["side"]])
    if np.sqrt(pp) < TINY_NORM:
        c["cancelled"] += 1
        return
    c["side"] = 1 - c["side"]
    c["pp"] = pp
    c["q"] *= g
    _remember(c, kept, share, event)


@numba.njit(cache=True, error_model="numpy")
def fold_rows(profile: Open, rows: Rows, texts: Texts, priors: Priors, gates: Any, out: Out) -> int:
    """Folds rows in order into the open profile; returns how many states were written to `out`.

    gates: GATE[...], the gates of the facets.

    A state is emitted where its day, or its (user, facet), ends. A prior row is the state to continue from;
    the first event of a (user, facet) without one is its profile, and every later event moves it.
    """
    c, sides, previous = profile.carry[0], profile.sides, profile.previous
    emitted = 0
    for i in range(rows.kinds.shape[0]):
        if c["open"] and (rows.starts[i] or rows.days[i] != c["day"]):
            emit(c, sides, previous, rows.starts[i], out.states[emitted], out.vectors[emitted])
            emitted += 1
        if rows.starts[i]:
            _begin_facet(c)
        if rows.kinds[i] == PRIOR_ROW:
            _restore_prior(c, sides, previous, priors, rows.priors[i], rows.days[i])
            continue
        gate = gate_at(gates, rows.gates[i])
        if not c["open"]:
            _begin_day(c, rows.days[i], gate)
        c["high"] ^= rows.highs[i]
        c["low"] ^= rows.lows[i]
        c["last_row"] = i + 1  # row 0 of the table that names states is the last row of the batch before
        v, vv, w = texts.vectors[rows.texts[i]], texts.norms[rows.texts[i]], rows.weights[i]
        if c["n"] == 0:
            _begin_profile(c, sides[c["side"]], v, vv, w, rows.first_id + i)
        else:
            _move_profile(c, sides, gate, v, vv, w, rows.first_id + i)
    return emitted
