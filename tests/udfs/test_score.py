"""Centred scores: the mean, directions, and what a shift of the whole catalogue does to them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.score import centred_units, mean_vector

SEEDS = st.integers(0, 10_000)


def vectors(seed: int, rows: int = 7, dim: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


@settings(deadline=None)
@given(SEEDS)
def test_directions_have_length_one_and_point_from_the_mean(seed):
    found = vectors(seed)
    mean = mean_vector(found)
    units = centred_units(found, mean)
    assert np.linalg.norm(units, axis=1) == pytest.approx(1, abs=1e-12)
    moved = found.astype(np.float64) - mean
    assert (units * moved).sum(axis=1) == pytest.approx(np.linalg.norm(moved, axis=1), abs=1e-9)


@settings(deadline=None)
@given(SEEDS, st.floats(-4, 4))
def test_a_common_direction_changes_no_centred_score(seed, size):
    found = vectors(seed)
    shifted = found + np.float32(size)
    first, again = (centred_units(x, mean_vector(x)) for x in (found, shifted))
    assert first @ first.T == pytest.approx(again @ again.T, abs=1e-4)


def test_a_vector_at_the_mean_has_no_direction():
    same = np.ones((3, 4), np.float32)
    assert not centred_units(same, mean_vector(same)).any()


def test_no_items_have_a_mean_of_zeros():
    assert mean_vector(np.zeros((0, 3), np.float32)).tolist() == [0, 0, 0]
