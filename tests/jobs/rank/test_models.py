"""Every model against its formula written plainly, and what all of them share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jobs.rank import ease, neighbours
from jobs.rank.blend import blended, min_max, simplex
from jobs.rank.ease import ease_scores, fit_ease
from jobs.rank.events import History, history_at
from jobs.rank.factors import als_scores, fit_als, fit_neural, neural_scores
from jobs.rank.models import BY_NAME, MODELS
from jobs.rank.neighbours import (
    crowded,
    fit_neighbours,
    item_cosines,
    item_knn_scores,
    items_each,
    last_item_scores,
    nearest,
)
from jobs.rank.popularity import fit_decayed, fit_popularity, own_scores, popularity_scores
from tests.jobs.rank.worlds import events_of

TODAY, ITEMS = 20, 9


def history(users: int = 12, seed: int = 0) -> History:
    """Random choices of all but the last user, who has none; item 8 is never chosen."""
    draws = np.random.default_rng(seed)
    rows = [(int(u), int(i), int(d)) for u, i, d in draws.integers(0, (users - 1, ITEMS - 1, TODAY), (60, 3))]
    return history_at(events_of(rows, users), TODAY, ITEMS)


def dense(found: History) -> np.ndarray:
    return found.matrix.toarray()


def test_popularity_counts_choices_and_decays_by_half():
    found = history_at(events_of([(0, 1, 20), (0, 1, 10), (1, 2, 20)], users=2), 20, 3)
    assert popularity_scores(fit_popularity(found, {}), found, {}).tolist() == [[0, 2, 1]] * 2
    decayed = fit_decayed(found, {"half_life": 10})["popularity"]
    assert decayed.tolist() == [0, 1.5, 1]


def test_own_choices_come_first_and_the_rest_by_popularity():
    rows = [(0, 1, 20), (0, 2, 10), (1, 3, 20), (1, 3, 19), (1, 4, 20)]
    found, parameters = history_at(events_of(rows, users=3), 20, 6), {"half_life": 10}
    scores = own_scores(fit_decayed(found, parameters), found, parameters)
    assert np.argsort(-scores[0], kind="stable").tolist() == [1, 2, 3, 4, 0, 5]
    # Without choices of their own, popularity alone.
    assert np.argsort(-scores[2], kind="stable").tolist() == [3, 1, 4, 2, 0, 5]


def test_cosines_of_items():
    found = history()
    x = dense(found)
    norms = np.sqrt((x * x).sum(axis=0))
    wanted = (x.T @ x) / (np.outer(norms, norms) + 2.0)
    np.fill_diagonal(wanted, 0)
    assert item_cosines(found, 2.0).toarray() == pytest.approx(wanted, abs=1e-12)


def test_the_nearest_are_the_largest_of_each_row():
    found = nearest(item_cosines(history(), 0.0), 2).toarray()
    every = item_cosines(history(), 0.0).toarray()
    for own, row in zip(found, every, strict=True):
        wanted = np.argsort(-row, kind="stable")[: min(2, np.count_nonzero(row))]
        assert np.flatnonzero(own).tolist() == sorted(wanted.tolist())


def test_whoever_chose_very_many_items_counts_by_the_latest_ones(monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_PAIRS", 8)
    rows = [(0, 0, 1), (0, 1, 2), (0, 2, 3), (0, 0, 4), (1, 0, 1), (1, 1, 1)]
    found = history_at(events_of(rows, users=3), TODAY, ITEMS)
    assert crowded(found).tolist() == [0]
    # Of user 0 the items 2 and 0, which was chosen again.
    few = history_at(events_of([(0, 2, 3), (0, 0, 4), (1, 0, 1), (1, 1, 1)], users=3), TODAY, ITEMS)
    assert item_cosines(found, 1).toarray().tolist() == item_cosines(few, 1).toarray().tolist()


def test_a_crawler_has_no_more_pairs_than_others_may_have(monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_PAIRS", 100)
    found = history_at(events_of([(0, item, 1) for item in range(500)], users=1), TODAY, 500)
    assert item_cosines(found, 1).nnz == 10 * 9


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=6), st.integers(1, 200))
def test_as_many_items_of_each_user_count_as_pairs_have_room(sizes, pairs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "MOST_PAIRS", pairs)
        found = items_each(np.array(sizes, np.int64))
    fit = [n for n in range(1, max([1, *sizes]) + 1) if sum(min(size, n) ** 2 for size in sizes) <= pairs]
    assert found == max(fit, default=1)


def test_item_knn_and_the_last_item_by_their_sums():
    found, parameters = history(), {"neighbours": 3, "shrink": 1}
    arrays = fit_neighbours(found, parameters)
    near = nearest(item_cosines(found, 1), 3).toarray()
    wanted = dense(found) @ near.T
    assert item_knn_scores(arrays, found, parameters) == pytest.approx(wanted, abs=1e-6)
    last = last_item_scores(arrays, found, parameters)
    for user, (first, end) in enumerate(zip(found.events.starts[:-1], found.events.starts[1:], strict=True)):
        own = near[found.events.item[end - 1]] if end > first else np.zeros(ITEMS)
        assert last[user] == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize("users", [5, 40])
def test_ease_by_its_formula_over_items_and_over_users(users):
    found, parameters = history(users), {"penalty": 3.0}
    x = dense(found)
    inverse = np.linalg.inv(x.T @ x + 3.0 * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    arrays = fit_ease(found, parameters)
    assert ("shares" in arrays) == (users == 5)
    assert ease_scores(arrays, found, parameters) == pytest.approx(x @ weights, abs=1e-12)


@pytest.mark.parametrize("users", [5, 40])
def test_ease_of_too_many_items_takes_the_most_chosen_however_few_users_there_are(users, monkeypatch):
    monkeypatch.setattr(ease, "LARGEST_SIDE", 4)
    found = history(users)
    counts = dense(found).sum(axis=0)
    arrays = fit_ease(found, {"penalty": 3.0})
    assert arrays["items"].tolist() == sorted(np.argsort(-counts, kind="stable")[:4].tolist())
    scores = ease_scores(arrays, found, {})
    assert not scores[:, np.setdiff1d(np.arange(ITEMS), arrays["items"])].any()


def test_als_gives_users_the_factors_of_the_package():
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    found, parameters = history(), {"factors": 4, "penalty": 0.5, "confidence": 5.0}
    arrays = fit_als(found, parameters)
    with threadpool_limits(1):
        model = AlternatingLeastSquares(4, regularization=0.5, alpha=5.0, dtype=np.float64, num_threads=1)
        model.item_factors = arrays["items"]
        users = model.recalculate_user(np.arange(found.users), found.matrix)
    assert als_scores(arrays, found, parameters) == pytest.approx(users @ arrays["items"].T, abs=1e-6)


def test_the_neural_filter_learns_and_knows_no_new_user():
    rows = [(u, 4 * (u % 2) + i, 1) for u in range(20) for i in range(4)]
    found = history_at(events_of(rows, users=21), 1, 8)
    arrays = fit_neural(found, {"epochs": 100})
    scores, chosen = neural_scores(arrays, found, {}), dense(found)[:20] == 1
    assert scores[:20][chosen].mean() > scores[:20][~chosen].mean() + 0.1
    mean = arrays["user_vectors"].mean(axis=0)
    assert scores[20] == pytest.approx(arrays["item_vectors"] @ mean, abs=1e-12)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_model_gives_finite_scores_and_the_same_bits_again(model):
    found, parameters = history(), model.grid[0]
    first = model.scores(model.fit(found, parameters), found, parameters)
    again = model.scores(model.fit(found, parameters), found, parameters)
    assert first.shape == (found.users, ITEMS) and first.dtype == np.float64
    assert np.isfinite(first).all() and first.tobytes() == again.tobytes()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_users_scores_do_not_depend_on_who_is_scored_too(model):
    found, parameters = history(users=40), model.grid[0]
    arrays = model.fit(found, parameters)
    every = model.scores(arrays, found, parameters)
    for places in ([3], [0, 3, 17], list(range(1, 40, 2))):
        few = History(found.today, found.items, found.events.of(np.array(places)))
        assert model.scores(arrays, few, parameters).tobytes() == every[places].tobytes()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_model_of_nothing_ranks_nothing_first(model):
    empty = history_at(events_of([], users=2), TODAY, ITEMS)
    if model.name in ("als", "neural_cf", "ease"):
        arrays = model.fit(history(), model.grid[0])
    else:
        arrays = model.fit(empty, model.grid[0])
    assert np.isfinite(model.scores(arrays, empty, model.grid[0])).all()


def test_grids_name_their_models():
    assert set(BY_NAME) == {model.name for model in MODELS} and all(model.grid for model in MODELS)


def test_scores_are_scaled_over_what_can_be_ranked():
    scores = np.array([[1.0, 3.0, 2.0, 99.0], [5.0, 5.0, 5.0, 0.0]])
    found = min_max(scores, np.array([True, True, True, False]))
    assert found[:, :3].tolist() == [[0, 1, 0.5], [0, 0, 0]]


def test_a_blend_is_a_weighted_mean():
    a, b = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    assert blended([a, b], [0.25, 0.75]).tolist() == [[0.75, 0.25]]
    (even,) = blended([a, b], [0.5, 0.5], ties=a)
    assert even[1] > even[0] and even == pytest.approx(0.5)
    assert len(simplex(4, 5)) == 56 and all(sum(weights) == pytest.approx(1) for weights in simplex(4, 5))


@settings(deadline=None)
@given(arrays(np.float64, (2, 6), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_any_finite_scores_are_scaled_to_0_to_1(scores):
    """Also those whose difference is so small that its inverse is no number, or too large to be one."""
    with np.errstate(over="ignore"):
        found = min_max(scores, np.ones((2, 6), bool))
    assert ((found >= 0) & (found <= 1)).all()
