"""The two vector loops against plain Python, bit for bit."""

import numba
import numpy as np
import pytest

from tests import oracle
from udfs.fold.contract import LANES
from udfs.fold.lanes import blend, dot


@numba.njit(error_model="numpy")
def compiled_dot(a, b):
    return dot(a, b)


@numba.njit(error_model="numpy")
def compiled_blend(g, p, h, v, moved):
    return blend(g, p, h, v, moved)


def random_pair(lanes: int) -> np.ndarray:
    """Two vectors float32[8 * lanes] of numbers of very different magnitude, so that each rounding shows."""
    rng = np.random.default_rng(lanes)
    size = (2, LANES * lanes)
    return (rng.standard_normal(size) * 10.0 ** rng.integers(-4, 5, size)).astype(np.float32)


@pytest.mark.parametrize("lanes", [1, 2, 3, 48])
def test_dot_adds_in_the_specified_order(lanes):
    a, b = random_pair(lanes)
    assert compiled_dot(a, b) == oracle.dot(a.tolist(), b.tolist())


@pytest.mark.parametrize("lanes", [1, 2, 3, 48])
def test_blend_rounds_each_operation_and_returns_the_squared_norm(lanes):
    p, v = random_pair(lanes)
    g, h = np.float32(0.7), np.float32(0.3)
    moved = np.empty_like(p)
    squared = compiled_blend(g, p, h, v, moved)
    expected = [g * old + h * new for old, new in zip(p, v, strict=True)]
    assert moved.tobytes() == np.array(expected, np.float32).tobytes()
    assert squared == oracle.dot(moved.tolist(), moved.tolist())
