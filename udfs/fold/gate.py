"""The gate's formulas: how much of a profile an event retains, and how much of its weight time does.

Each step is one IEEE 754 operation or exact, so that all machines give the same bits.
"""

import math
from typing import Any, Final, NamedTuple

import numba
import numpy as np

from udfs.fold.contract import BOUND_FROM_COUNT, FIXED, GATES, LITERAL, MEAN, FoldConstants

# Not math.log(2): its last bit is the C library's.
LN_2: Final = 0.6931471805599453
# Terms of the exponential series below 2^-53 of the sum, for arguments up to LN_2.
TERMS: Final = 17
# More half-lives leave nothing: a weight must not become subnormal, which some processors round to zero.
MOST_HALVINGS: Final = 900

# A row for the gate of each facet.
GATE: Final = np.dtype(
    [
        ("kind", np.int64), ("resist", np.bool_), ("alpha", np.float64), ("k_min", np.float64),
        ("k_max", np.float64), ("max_day_share", np.float64), ("half_life_days", np.float64),
    ]
)  # fmt: skip


class Gate(NamedTuple):
    """The gate and its constants, in GATE's order; `kind` is one of EFFECTIVE, LITERAL, MEAN, FIXED."""

    kind: int
    resist: bool
    alpha: float
    k_min: float
    k_max: float
    max_day_share: float
    half_life_days: float  # infinite: no decay

    @classmethod
    def of(cls, constants: FoldConstants) -> "Gate":
        """The gate of the settings' constants."""
        half_life = constants.half_life_days
        return cls(
            kind=GATES[constants.gate],
            resist=constants.relevance == "resist",
            alpha=constants.alpha,
            k_min=constants.k_min,
            k_max=constants.k_max,
            max_day_share=constants.max_day_share,
            half_life_days=math.inf if half_life is None else half_life,
        )


@numba.njit(cache=True, error_model="numpy")
def gate_at(gates: Any, i: int) -> Gate:
    """Row i of GATE[...]."""
    row = gates[i]
    return Gate(
        row["kind"],
        row["resist"],
        row["alpha"],
        row["k_min"],
        row["k_max"],
        row["max_day_share"],
        row["half_life_days"],
    )


@numba.njit(cache=True, error_model="numpy")
def gain(gate: Gate, cos: float, s1: float, s2: float) -> tuple[float, bool]:
    """The gain k of an event, and whether the formula set it: it lies strictly between k_min and k_max.

        r = (1 + cos) / 2                       relevance; 1 - r if the gate resists
        m = E / (E + 1), E = 1 + S1*S1/S2       memory; E = 1 while S2 = 0
        k = alpha*r + (1 - alpha)*m             clipped to [k_min, k_max]

    `cos` is the cosine of profile and event; S1 and S2 are the sums of the gains so far and of their squares.
    With m = S1/S2 this is the published incremental update p' = k p + (1 - k) v: gate `literal`, which has
    k = k_max while S2 = 0. Since S1/S2 >= 1/k_max, its k is always clipped; gate `effective` bounds m by the
    effective sample size S1*S1/S2 (Kish, Survey Sampling, 1965). Gate `fixed` has k = k_max. Gate `mean` has
    k = 1, so that only the event's fair share counts (retained_share).

    >>> gate = Gate(GATES["effective"], False, 0.05, 0.5, 0.98, max_day_share=0.8, half_life_days=math.inf)
    >>> gain(gate, 1.0, 0.0, 0.0)  # the second event, on topic: 0.05*1 + 0.95*1/2
    (0.525, True)
    >>> gain(gate, -1.0, 0.0, 0.0)  # off topic: 0.475 is below k_min
    (0.5, False)
    >>> gain(gate._replace(resist=True), -1.0, 0.0, 0.0)
    (0.525, True)
    >>> gain(gate._replace(kind=LITERAL), 0.0, 0.6, 0.36), gain(gate._replace(kind=FIXED), 0.0, 0.6, 0.36)
    ((0.98, False), (0.98, False))
    >>> gain(gate._replace(kind=LITERAL), 0.0, 0.0, 0.0), gain(gate._replace(kind=MEAN), 0.0, 0.0, 0.0)
    ((0.98, False), (1.0, False))
    """
    if gate.kind == MEAN:
        return 1.0, False
    if gate.kind == FIXED or (gate.kind == LITERAL and s2 == 0.0):
        return gate.k_max, False
    r = (1.0 + cos) / 2.0
    if gate.resist:
        r = 1.0 - r
    if gate.kind == LITERAL:
        m = s1 / s2
    else:
        e = 1.0 if s2 == 0.0 else 1.0 + s1 * s1 / s2
        m = e / (e + 1.0)
    k = gate.alpha * r + (1.0 - gate.alpha) * m
    return min(max(k, gate.k_min), gate.k_max), gate.k_min < k < gate.k_max


@numba.njit(cache=True, error_model="numpy")
def retained_share(k: float, w: float, total: float, least: float) -> tuple[float, bool]:
    """The share g of the profile that an event of weight w leaves, and whether the gain k set it.

        g = min(1 - w*(1 - k), W / (W + w))     no early event outweighs its fair share; W = total
        g = max(g, least)                       the day's bound, see day_floor

    >>> retained_share(0.525, 1.0, 1.0, 0.0)  # the second event: its fair share is one half
    (0.5, False)
    >>> retained_share(0.525, 0.5, 20.0, 0.0)
    (0.7625, True)
    >>> retained_share(0.525, 0.5, 20.0, 0.8)
    (0.8, False)
    """
    kept = 1.0 - w * (1.0 - k)
    fair = total / (total + w)
    g = min(kept, fair)
    if least > g:
        return least, False
    return g, kept <= fair


@numba.njit(cache=True, error_model="numpy")
def day_floor(n_at_day_start: int, q: float, max_day_share: float) -> float:
    """The least share that an event must leave, so that its day moves the profile by at most max_day_share.

    q is the product of the day's shares so far. A profile with fewer than BOUND_FROM_COUNT events at the
    start of the day moves freely.

    >>> day_floor(9, 0.5, 0.75), day_floor(10, 0.5, 0.75)
    (0.0, 0.5)
    """
    if n_at_day_start < BOUND_FROM_COUNT:
        return 0.0
    return (1.0 - max_day_share) / q


@numba.njit(cache=True, error_model="numpy")
def remaining(days: int, half_life_days: float) -> float:
    """The share 2^(-days/half_life_days) of a weight that so many whole days leave, within 1e-13 of itself.

        x = days / half_life_days = i + f,  t = f * ln 2
        2^-x = 2^-i * e^-t,  e^-t = 1 - t/1 * (1 - t/2 * (1 - t/3 * ...))

    In single sums, products and quotients: the last bit of exp2 and pow differs between C libraries.

    >>> remaining(0, 30.0), remaining(30, 30.0), remaining(7, math.inf)
    (1.0, 0.5, 1.0)
    >>> remaining(15, 30.0)
    0.7071067811865475
    >>> remaining(36500, 1.0)
    0.0
    """
    x = days / half_life_days
    if x > MOST_HALVINGS:
        return 0.0
    i = int(x)
    t = (x - i) * LN_2
    share = 1.0
    for j in range(TERMS, 0, -1):
        share = 1.0 - t / j * share
    return math.ldexp(share, -i)
