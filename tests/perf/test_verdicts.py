"""The script of verdicts scores like the evaluator, and folds like the product."""

import numpy as np
import pytest

from jobs.rank.catalogue import Catalogue, shelf_on
from jobs.rank.content import content_scores, profiles_on, raw_scores, with_facet
from tests.perf.verdicts.judge import content_of
from tests.perf.verdicts.logs import log_of
from tests.perf.verdicts.profiles import choices, negative, states_of, weights_of
from tests.perf.verdicts.settings import Candidate, contexts_of, plan_of

A_DAY = 86_400_000_000
VECTORS = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)


def row(user, item, day, rating=np.nan, kind="purchase", **others):
    return {
        "user": user,
        "item": item,
        "title": item,
        "text": item,
        "micros": day * A_DAY,
        "arrived": day,
        "kind": kind,
        "rating": rating,
        "contexts": {"evening": day % 2 == 0},
    } | others


def folds(log):
    return {**plan_of(log).folds, **contexts_of(log).folds}


@pytest.fixture
def log():
    rows = [row(1, "a", 1), row(1, "b", 2), row(1, "c", 3, 0.1, "rating"), row(1, "d", 5), row(2, "b", 3)]
    return log_of(rows, dict.fromkeys("e", "e"), 0)


def test_a_log_has_its_items_events_and_choices(log):
    assert log.user.tolist() == [1, 1, 1, 1, 2] and log.item.tolist() == [0, 1, 2, 3, 1]
    assert log.known.tolist() == [1, 2, 3, 5, 0] and [log.texts[t] for t in log.item_text] == list("abcde")
    assert negative(log).tolist() == [False, False, True, False, False]
    assert choices(log).tolist() == [True, True, False, True, True]
    # A rating of one tenth is a clear opinion: 0.25 + 0.75 * 0.8.
    assert weights_of(log).tolist() == pytest.approx([1, 1, 0.8 * 0.85, 1, 1])


def test_profiles_are_those_that_steps_can_use(log):
    states = states_of(log, VECTORS, folds(log), [3, 6]).facets
    assert states["main"].users.tolist() == [1, 1, 2] and states["main"].day.tolist() == [2, 5, 3]
    assert states["negative"].vectors == pytest.approx(VECTORS[[2]])
    assert states["mean"].vectors[1] == pytest.approx(VECTORS[[0, 1, 3]].mean(axis=0), abs=1e-6)
    assert states["evening"].vectors == pytest.approx(VECTORS[[1]])


def test_scores_are_those_of_the_evaluator(log):
    every = np.arange(5, dtype=np.int32)
    shelf = shelf_on(Catalogue(log.known, every, log.known, log.item_text, VECTORS), 6)
    states = states_of(log, VECTORS, folds(log), [6])
    profiles = profiles_on(states, shelf, np.array([1, 2]), 6)
    candidates = {
        "default": Candidate(),
        "raw": Candidate(negative=None, is_raw=True),
        "with evening": Candidate(("main", "evening")),
    }
    found = content_of(candidates, profiles, shelf, 0.25)
    content = content_scores(shelf, profiles, 0.25)
    wanted = content, raw_scores(shelf, profiles), with_facet(content, shelf, profiles, "evening")
    for user in (0, 1):
        assert found(user) == pytest.approx(np.array([scores[user] for scores in wanted]), abs=1e-5)
