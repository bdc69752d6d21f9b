"""The models of lists: users count once, and sparse weights are those of the models they stand for."""

import numpy as np
import pytest

from jobs.rank.ease import ease_scores, fit_ease
from jobs.rank.events import History, history_at
from jobs.rank.neighbours import fit_neighbours, item_knn_scores, last_item_scores
from jobs.recommend import models
from jobs.recommend.models import COLLABORATIVE, OWN, SUPPORT, fit_ease_rows, row_scores
from tests.jobs.rank.test_models import ITEMS, TODAY, history
from tests.jobs.rank.worlds import events_of


def once(rows: list[tuple[int, int, int]], users: int) -> np.ndarray:
    found = history_at(events_of(rows, users), TODAY, 3)
    return np.asarray(SUPPORT.fit(found, {"half_life": 10})["popularity"])


def test_a_user_counts_once_for_an_item_with_the_last_choice():
    rows = [(0, 1, 0), (0, 1, 10), (1, 1, 20), (1, 2, 20)]
    assert once(rows, 2).tolist() == [0, 1.5, 1]


def test_a_flood_by_one_user_moves_an_item_no_more_than_one_choice():
    rows = [(user, 0, 15) for user in range(5)]
    assert once([*rows, *[(9, 1, 15)] * 5000], 10).tolist() == once([*rows, (9, 1, 15)], 10).tolist()


@pytest.mark.parametrize("model", COLLABORATIVE, ids=lambda model: model.name)
def test_a_flood_by_one_user_changes_no_weight(model):
    rows = [(user, item, 1) for user in range(8) for item in range(user % 3, ITEMS, 2)]
    flood = [*rows, *[(0, item, 1) for item in range(0, ITEMS, 2)] * 50]
    fitted = [
        model.fit(history_at(events_of(r, 8), TODAY, ITEMS), model.grid[0])
        for r in (sorted(set(rows)), flood)
    ]
    for name, values in fitted[0].items():
        assert values.tobytes() == fitted[1][name].tobytes()


def test_own_choices_decay():
    found = history_at(events_of([(0, 1, 20), (0, 1, 10), (0, 2, 10)], users=2), TODAY, 3)
    assert OWN.scores(OWN.fit(found, {}), found, {"half_life": 10}).tolist() == [[0, 1.5, 0.5], [0, 0, 0]]


@pytest.mark.parametrize("users", [5, 40])
def test_ease_with_room_for_all_weights_is_ease(users):
    found, parameters = history(users), {"penalty": 3.0}
    wanted = ease_scores(fit_ease(found, parameters), found, parameters)
    assert row_scores(fit_ease_rows(found, parameters), found, parameters) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("users", [5, 40])
def test_the_weights_kept_are_the_largest_of_each_item_scored(users, monkeypatch):
    found, parameters = history(users), {"penalty": 3.0}
    every = dense(fit_ease_rows(found, parameters))
    monkeypatch.setattr(models, "KEPT", 3)
    monkeypatch.setattr(models, "AT_ONCE", 2)
    few = dense(fit_ease_rows(found, parameters))
    for scored in range(ITEMS):
        largest = np.argsort(-np.abs(every[:, scored]), kind="stable")[:3]
        kept = np.zeros(ITEMS)
        kept[largest] = every[largest, scored]
        assert few[:, scored] == pytest.approx(kept, abs=1e-6)


def dense(arrays: dict) -> np.ndarray:
    return models._weights(arrays, ITEMS).toarray()


def test_neighbours_score_as_the_evaluator_s():
    found, parameters = history(), {"neighbours": 3, "shrink": 1}
    by_name = {model.name: model for model in COLLABORATIVE}
    for name, scores in (("item_knn", item_knn_scores), ("last_item", last_item_scores)):
        wanted = scores(fit_neighbours(found, parameters), found, parameters)
        model = by_name[name]
        # The evaluator's decide ties by popularity.
        assert model.scores(model.fit(found, parameters), found, parameters) == pytest.approx(
            wanted, abs=1e-6
        )


@pytest.mark.parametrize("model", [SUPPORT, OWN, *COLLABORATIVE], ids=lambda model: model.name)
def test_a_model_gives_the_same_bits_again_and_for_each_user_alone(model):
    found, parameters = history(40), model.grid[0]
    arrays = model.fit(found, parameters)
    every = model.scores(arrays, found, parameters)
    again = model.fit(found, parameters)
    assert {k: v.tobytes() for k, v in arrays.items()} == {k: v.tobytes() for k, v in again.items()}
    few = History(found.today, found.items, found.events.of(np.array([3, 17])))
    assert model.scores(arrays, few, parameters).tobytes() == every[[3, 17]].tobytes()
