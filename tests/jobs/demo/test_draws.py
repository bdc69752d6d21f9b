"""Draws are proportional to their weights."""

import numpy as np
import pytest

from jobs.demo.draws import draw, one_of


def test_a_key_is_drawn_in_proportion_to_its_weight() -> None:
    rng = np.random.default_rng(1)
    drawn = [draw(rng, {"a": 6.0, "b": 0.0, "c": 2.0}) for _ in range(4000)]
    assert drawn.count("a") / 4000 == pytest.approx(0.75, abs=0.03)
    assert drawn.count("b") == 0


def test_every_option_is_equally_likely() -> None:
    rng = np.random.default_rng(1)
    drawn = [one_of(rng, "xyz") for _ in range(3000)]
    assert {letter: drawn.count(letter) / 3000 for letter in "xyz"} == pytest.approx(
        {"x": 1 / 3, "y": 1 / 3, "z": 1 / 3}, abs=0.04
    )
