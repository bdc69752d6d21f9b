"""Re-ranked lists hold to the papers' formulas, to their caps, and to the same bits in any batch."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.udfs.test_rank import by_user, listed, plain_items, ranker, users
from udfs.rank import EXCLUDE, ONLY, PARTS, Ranker
from udfs.rerank import (
    DEEPER,
    NO_CATEGORY,
    NO_ITEM,
    SMOOTHING,
    Candidates,
    Reranking,
    Rules,
    distance,
    divergence,
    drawn,
    draws,
    rates_for,
    relisted,
)
from udfs.score import centred_units

OFF = Rules(0.0, 0.0, 1.0)


def candidates(seed: int, count: int = 30) -> Candidates:
    """Drawn candidates, best first; every fifth has no vector."""
    draws = np.random.default_rng(seed)
    units = centred_units(draws.normal(size=(count, 5)).astype(np.float32), np.zeros(5, np.float32))
    units[::5] = 0
    scores = -np.sort(-draws.integers(0, 9, count) / 8).astype(np.float32)
    items = draws.permutation(count).astype(np.int64)
    had = draws.integers(0, count, 6).astype(np.int64)
    names = [f"i{item}" for item in items]
    return Candidates(f"u{seed}", items, names, scores, units, had, draws.random(6))


def reranking(rules: Rules, seed: int = 0, count: int = 30, rates: float = 1.0) -> Reranking:
    """Of 4 categories; some items have none."""
    category = np.random.default_rng(seed + 1000).integers(NO_CATEGORY, 4, count).astype(np.int32)
    return Reranking(rules, category, np.full(count, rates))


# ---- the plain formulas


def plain_divergence(given: Candidates, category: np.ndarray, listed: list[int]) -> float:
    mass = np.zeros(4)
    for item, weight in zip(given.had, given.weights, strict=True):
        if category[item] != NO_CATEGORY:
            mass[category[item]] += weight
    if not mass.sum():
        return 0.0
    found = 0.0
    for name, share in enumerate(mass / mass.sum()):
        if share:
            there = sum(category[given.items[at]] == name for at in listed) / len(listed)
            found += share * np.log(share / ((1 - SMOOTHING) * there + SMOOTHING * share))
    return found


def plain_list(given: Candidates, found: Reranking, top: int) -> list[int]:
    """Greedily, the first of equal ones."""
    rules, done = found.rules, list[int]()
    while len(done) < min(top, len(given.items)):
        values = {}
        for at in range(len(given.items)):
            if at not in done:
                alike = max((float(given.units[at] @ given.units[other]) for other in done), default=0.0)
                score = (1 - rules.diversity - rules.calibration) * float(given.scores[at])
                unlike = plain_divergence(given, found.category, [*done, at])
                values[at] = score - rules.diversity * alike - rules.calibration * unlike
        best = max(values.values())
        done.append(next(at for at, value in values.items() if value > best - 1e-12))
    return done


@pytest.mark.parametrize("rules", [(0.3, 0.0), (0.0, 0.4), (0.2, 0.3), (1.0, 0.0), (0.0, 1.0)])
def test_picks_follow_the_formulas(rules):
    for seed in range(12):
        given, asked = candidates(seed), reranking(Rules(*rules, 1.0), seed)
        assert relisted(given, asked, 8).tolist() == plain_list(given, asked, 8)


def test_without_options_the_list_is_that_of_the_scores():
    assert relisted(candidates(1), reranking(OFF), 8).tolist() == list(range(8))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.floats(0, 1), st.floats(0, 1), st.integers(1, 40))
def test_a_list_has_distinct_candidates_and_as_many_as_there_are(seed, one, two, top):
    diversity, calibration = (one, two) if one + two <= 1 else (one / 2, two / 2)
    found = relisted(candidates(seed), reranking(Rules(diversity, calibration, 1.0), seed), top)
    assert len(set(found.tolist())) == len(found) == min(top, 30)


def test_diversity_spreads_a_list_and_calibration_brings_it_nearer_to_the_history():
    spread, near = [], []
    for seed in range(30):
        given = candidates(seed)
        plain, diverse, calibrated = (
            relisted(given, reranking(rules, seed), 8)
            for rules in (OFF, Rules(0.7, 0.0, 1.0), Rules(0.0, 0.7, 1.0))
        )
        category = reranking(OFF, seed).category
        spread.append(distance(given.units[diverse]) - distance(given.units[plain]))
        far = [plain_divergence(given, category, places.tolist()) for places in (calibrated, plain)]
        near.append(far[0] - far[1])
    assert np.mean(spread) > 0.02 and np.mean(near) < -0.05


def test_figures_of_lists():
    draws = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
    units = centred_units(draws, np.zeros(4, np.float32))
    pairs = [1 - float(units[a] @ units[b]) for a in range(6) for b in range(6) if a != b]
    assert distance(units) == pytest.approx(np.mean(pairs))
    assert distance(units[:1]) == 0
    assert divergence(np.zeros(0), np.zeros(0)) == 0
    assert float(divergence(np.array([1.0]), np.array([0.0]))) == pytest.approx(-np.log(SMOOTHING))


# ---- caps


def test_a_draw_is_the_users_and_the_items_own_and_nested_in_those_of_higher_rates():
    given = candidates(2)
    few, many = (drawn(given, np.full(30, rate)) for rate in (0.2, 0.6))
    assert not (few & ~many).any() and few.sum() < many.sum()
    order = np.random.default_rng(0).permutation(30)
    mixed = replace(given, items=given.items[order], names=[given.names[at] for at in order])
    assert (drawn(mixed, np.full(30, 0.6)) == many[order]).all()
    assert drawn(given, np.ones(30)).all() and not drawn(given, np.zeros(30)).any()


def test_about_so_many_users_may_be_shown_an_item():
    names = [f"i{n}" for n in range(1000)]
    nothing = np.zeros(0, np.int64)
    one = Candidates("u", np.arange(1000), names, np.zeros(1000), np.zeros((1000, 1)), nothing, np.zeros(0))
    shares = [drawn(replace(one, user=f"u{n}"), np.full(1000, 0.3)).mean() for n in range(20)]
    assert np.mean(shares) == pytest.approx(0.3, abs=0.02)


def test_what_a_cap_leaves_out_fills_a_list_that_would_be_short():
    given, asked = candidates(4), reranking(Rules(0.5, 0.0, 0.1), rates=0.0)
    assert relisted(given, asked, 8).tolist() == list(range(8))
    one_open = replace(asked, rates=np.where(np.arange(30) == given.items[20], 1.0, 0.0))
    assert relisted(given, one_open, 3).tolist() == [20, 0, 1]


def test_rates_come_down_until_the_cap_holds_and_lists_hold_to_it():
    """Everybody prefers the same items, in nearly the same order; other users than those of the rates."""
    cap, top, count, nothing = 0.25, 5, 40, np.zeros(0, np.int64)

    def orders_of(seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(0, 0.1, (500, count))
        return np.argsort(-(np.linspace(1, 0, count) + noise), axis=1, kind="stable")

    def names(order: np.ndarray) -> list[str]:
        return [f"i{n}" for n in order]

    orders = orders_of(1)
    chances = np.stack([draws(f"u{user}", names(order)) for user, order in enumerate(orders)])
    rates, shown = rates_for(orders, chances, count, top, cap), np.zeros(count)
    for user, order in enumerate(orders_of(2)):
        own = Candidates(f"v{user}", order, names(order), -order, np.zeros((count, 1)), nothing, np.zeros(0))
        shown[order[relisted(own, Reranking(Rules(0, 0, cap), np.zeros(count), rates), top)]] += 1
    assert shown.sum() == 500 * top and (shown / 500).max() < cap + 0.08
    assert (rates < 1).sum() < count and rates.min() > 0


def test_rates_of_lists_that_are_below_the_cap_or_of_nobody():
    assert rates_for(np.array([[0, 1], [2, NO_ITEM]]), np.full((2, 2), 0.5), 3, 1, 0.5).tolist() == [1, 1, 1]
    assert rates_for(np.zeros((0, 4), int), np.zeros((0, 4)), 3, 1, 0.5).tolist() == [1, 1, 1]


# ---- in lists

ASKED = [Rules(0.3, 0.0, 1.0), Rules(0.0, 0.3, 1.0), Rules(0.0, 0.0, 0.2), Rules(0.3, 0.3, 0.4)]


def reranking_lists(rules: Rules, seed: int = 0, items: int = 40, **more) -> Ranker:
    """A ranker with options; rates are the cap for a third of the items."""
    given = ranker(seed, items, **more)
    rates = np.where(np.arange(items) % 3 == 0, rules.cap, 1.0)
    return replace(given, reranking=replace(reranking(rules, seed, items), rates=rates))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 999),
    st.sampled_from(ASKED),
    st.integers(1, 30),
    st.permutations(range(24)),
    st.lists(st.integers(0, 24), max_size=4),
)
def test_lists_have_the_same_bits_in_any_batch_block_and_order(seed, rules, block, order, cuts):
    given, batch = reranking_lists(rules, seed % 5, items=300, top=4), users(seed, 24, items=300)
    whole = listed([batch], given)
    mixed = batch.take(pa.array(order))
    pieces = [mixed.slice(first, last - first) for first, last in pairwise([0, *sorted(cuts), 24])]
    order_of = [("user_id", "ascending"), ("rank", "ascending")]
    assert listed(pieces, given, block).sort_by(order_of).equals(whole.sort_by(order_of))


@pytest.mark.parametrize("repeat", [EXCLUDE, ONLY])
@pytest.mark.parametrize("rules", ASKED)
def test_lists_are_of_the_best_candidates_with_their_scores_as_before(rules, repeat):
    given, batch = (
        reranking_lists(rules, 3, top=2, repeat=repeat, blocked=np.arange(40) % 7 == 3),
        users(7, 20),
    )
    scores = {
        (row["user_id"], row["item_id"]): row
        for row in listed([batch], replace(given, top=40, reranking=None)).to_pylist()
    }
    found = by_user(listed([batch], given))
    names = given.ids.to_pylist()
    for user in batch.to_pylist():
        for row in found.get(user["user_id"], []):
            before = scores[row["user_id"], row["item_id"]]
            assert before["rank"] <= DEEPER * given.top
            assert [row[part] for part in ("score", *PARTS)] == [before[part] for part in ("score", *PARTS)]
            assert plain_items(user, given)[names.index(row["item_id"])]
    assert found


def test_the_order_may_differ_from_the_scores():
    given = reranking_lists(Rules(0.7, 0.0, 1.0), top=8)
    rows = by_user(listed([users(1, 10)], given)).values()
    assert any([r["score"] for r in own] != sorted((r["score"] for r in own), reverse=True) for own in rows)
