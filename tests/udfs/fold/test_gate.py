"""The gate's formulas against the plain-Python oracle, bit for bit, and decay against exact arithmetic."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracle
from tests.oracle import Gate
from tests.udfs.fold.configs import constants
from tests.udfs.fold.histories import GATES
from udfs.fold import gate as gates
from udfs.fold.gate import day_floor, gain, remaining, retained_share


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: f"{gate.gate}-{gate.relevance}")
@settings(deadline=None)  # the first example may compile the formulas
@given(seed=st.integers(0, 1000), s1=st.floats(0.5, 500), spread=st.floats(0, 2))
def test_gain_and_retained_share_equal_the_oracle(gate: Gate, seed: int, s1: float, spread: float) -> None:
    rng = np.random.default_rng(seed)
    p, v = ([np.float32(x) for x in rng.standard_normal(8)] for _ in range(2))
    w, weight_sum, q = rng.uniform(0.01, 1), rng.uniform(0.01, 50), rng.uniform(0.01, 1)
    s2 = s1 * (0.5 + spread) if seed % 5 else 0.0
    day = oracle.Day(p, weight_sum, s1, s2, n=12, ledger=[], bounded=seed % 3 == 0, q=q)
    expected = oracle.retained_share(day, v, w, gate)
    given = gates.Gate.of(constants(gate=gate.gate, relevance=gate.relevance))
    k, by_formula = gain(given, oracle.cosine(oracle.as_float64(p), oracle.as_float64(v)), s1, s2)
    least = day_floor(12 if day.bounded else 9, q, gate.max_day_share)
    g, by_gain = retained_share(k, w, weight_sum, least)
    assert (g, by_formula and by_gain) == expected
    assert gate.gate == "mean" or (s1 + k, s2 + k * k) == (day.s1, day.s2)


@pytest.mark.parametrize(
    ("k_min", "k_max", "inside"), [(0.25, 0.75, True), (0.5, 0.75, False), (0.25, 0.5, False)]
)
def test_a_gain_at_a_bound_is_not_the_formulas(k_min, k_max, inside):
    given = constants(alpha=0.0, k_min=k_min, k_max=k_max)
    gate = gates.Gate.of(given)
    assert gain(gate, 0.0, 0.0, 0.0) == (0.5, inside)


def test_a_share_that_equals_its_bounds_is_the_gains():
    assert retained_share(0.5, 1.0, 1.0, least=0.0) == (0.5, True)  # the fair share is one half
    assert retained_share(0.5, 1.0, 9.0, least=0.5) == (0.5, True)


# ---- decay

HALF_LIVES = st.sampled_from([1.0, 7.0, 30.0, 365.0]) | st.floats(1, 36_500)


@settings(max_examples=500, deadline=None)  # the first example may compile
@given(days=st.integers(0, 40_000), half_life=HALF_LIVES)
def test_what_remains_equals_the_oracle_and_is_the_power_of_two(days: int, half_life: float) -> None:
    share = remaining(days, half_life)
    assert share == oracle.decay(days, half_life)
    if days / half_life > gates.MOST_HALVINGS:
        assert share == 0.0
        return
    with localcontext(prec=40):
        exact = (-Decimal(days) / Decimal(half_life) * Decimal(2).ln()).exp()
        assert abs(Decimal(share) - exact) <= exact * Decimal("1e-13")


@given(days=st.integers(0, 5_000), half_life=HALF_LIVES)
def test_less_remains_from_day_to_day(days: int, half_life: float) -> None:
    assert 1.0 >= remaining(days, half_life) >= remaining(days + 1, half_life) >= 0.0


@given(days=st.integers(0, 40_000), times=st.integers(0, 900))
def test_whole_half_lives_halve_exactly_and_none_leaves_all(days: int, times: int) -> None:
    assert remaining(30 * times, 30.0) == 0.5**times
    assert remaining(days, math.inf) == oracle.decay(days, None) == 1.0
