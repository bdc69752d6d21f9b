"""Paired bootstrap and Holm's correction."""

import numpy as np
import pytest
from scipy import stats

from jobs.rank import intervals
from jobs.rank.intervals import compare, holm, resampled_means, two_sided


def test_resampled_means_are_those_of_the_drawn_users():
    values = np.random.default_rng(3).normal(size=(7, 2))
    drawn = np.random.default_rng(5).integers(0, 7, (4, 7))
    wanted = np.stack([values[rows].mean(axis=0) for rows in drawn])
    assert resampled_means(values, 4, seed=5) == pytest.approx(wanted, abs=1e-12)


def test_means_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    values = np.random.default_rng(3).normal(size=(50, 3))
    whole = resampled_means(values, 40, seed=1)
    monkeypatch.setattr(intervals, "DRAWN_AT_ONCE", 120)
    assert resampled_means(values, 40, seed=1) == pytest.approx(whole, abs=1e-12)


def test_an_interval_covers_the_mean_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        values = np.random.default_rng(seed).exponential(size=80) - 1.0
        (found,) = compare({"a": values, "b": np.zeros(80)}, [("a", "b")], seed)
        covered += found.low <= 0 <= found.high
    assert 0.90 <= covered / 200 <= 0.98


def test_the_interval_of_few_users_is_as_wide_as_students():
    """Of normal values, whose interval is known; without the expansion it is a tenth narrower."""
    values = np.random.default_rng(4).normal(size=20)
    (found,) = compare({"a": values, "b": np.zeros(20)}, [("a", "b")], seed=0)
    wanted = stats.t.interval(0.95, 19, values.mean(), stats.sem(values))
    assert found.high - found.low == pytest.approx(wanted[1] - wanted[0], rel=0.05)
    assert found.difference == pytest.approx(values.mean())


def test_one_user_shows_nothing():
    (found,) = compare({"a": np.ones(1), "b": np.zeros(1)}, [("a", "b")], seed=0)
    assert (found.verdict, found.difference) == ("no difference shown", 1.0)


def test_users_are_paired():
    """A small gain of every user is seen through large differences between users."""
    own = np.random.default_rng(1).normal(size=200) * 10
    (found,) = compare({"a": own + 0.1, "b": own}, [("a", "b")], seed=0)
    assert found.verdict == "better" and found.low == pytest.approx(0.1, abs=1e-9)


def test_the_same_seed_gives_the_same_and_another_seed_another():
    values = {"a": np.random.default_rng(1).normal(size=30), "b": np.zeros(30)}
    first, again, other = (compare(values, [("a", "b")], seed) for seed in (1, 1, 2))
    assert first == again and first != other


@pytest.mark.parametrize(
    ("ps", "wanted"),
    [
        ([0.02], [0.02]),
        # 4 * 0.005, 3 * 0.01, 2 * 0.03, 1 * 0.04 raised to the one before.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6], [1.0, 1.0]),
    ],
)
def test_holm_by_hand(ps, wanted):
    assert holm(ps) == pytest.approx(wanted)


def test_no_difference_at_all_is_certain_to_show_none():
    values = np.random.default_rng(1).normal(size=30)
    (found,) = compare({"a": values, "b": values}, [("a", "b")], seed=0)
    assert (found.p_holm, found.verdict) == (1.0, "no difference shown")


def test_many_comparisons_can_still_show_a_difference():
    """A gain of every user in one of a hundred comparisons, the others of noise."""
    draws = np.random.default_rng(2)
    values = {f"m{i}": draws.normal(size=40) for i in range(99)} | {"none": np.zeros(40), "sure": np.ones(40)}
    found = compare(values, [(name, "none") for name in values if name != "none"], seed=0)
    assert found[-1].verdict == "better"


def test_a_p_is_never_zero():
    assert two_sided(np.ones(99)) == 2 / 100
