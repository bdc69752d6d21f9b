"""Content scores by facet: main, minus negative, and with a context facet where the user has one."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.evaluate.judge import scores_of
from jobs.rank.catalogue import Shelf, shelf_on
from jobs.rank.choice import Choice, context_facets
from jobs.rank.content import Profiles, content_scores, profiles_on, raw_scores, with_facet
from jobs.rank.events import history_at
from jobs.rank.models import MODELS
from jobs.rank.moment import moment_at
from jobs.rank.states import FacetStates, States
from tests.jobs.rank.worlds import NO_CHANGES, random_world

SHELF = Shelf(np.eye(2), np.eye(2), np.zeros(2))
# User 0 likes item 0, dislikes item 1 and is another on weekends; user 1 has a main profile alone.
FACETS = {
    "main": np.array([[0.8, 0.6], [0.0, 1.0]]),
    "negative": np.array([[0.0, 1.0], [0.0, 0.0]]),
    "weekend": np.array([[0.0, 1.0], [0.0, 0.0]]),
}
PROFILES = Profiles(FACETS, FACETS, {name: rows.any(axis=1) for name, rows in FACETS.items()})


def test_what_a_user_dislikes_is_subtracted():
    assert content_scores(SHELF, PROFILES, 0.0).tolist() == [[0.8, 0.6], [0, 1]]
    assert content_scores(SHELF, PROFILES, 0.5) == pytest.approx(np.array([[0.8, 0.1], [0, 1]]))
    assert raw_scores(SHELF, PROFILES).tolist() == [[0.8, 0.6], [0, 1]]


def test_a_context_facet_is_half_of_the_score_where_there_is_one():
    content = content_scores(SHELF, PROFILES, 0.0)
    assert with_facet(content, SHELF, PROFILES, "weekend") == pytest.approx(np.array([[0.4, 0.8], [0, 1]]))


def test_profiles_are_seen_from_the_mean_of_the_catalogue():
    vectors = np.array([[2, 1], [3, 1]], np.float32)
    states = States({"main": FacetStates(np.array([5, 7]), np.array([1, 9], np.int32), vectors)}, NO_CHANGES)
    found = profiles_on(states, replace(SHELF, mean=np.array([1.0, 1.0])), np.array([5, 6, 7]), 3)
    assert found.there["main"].tolist() == [True, False, False]
    assert found.centred["main"].tolist() == [[1, 0], [0, 0], [0, 0]]
    assert found.raw["main"][0] == pytest.approx(np.array([2, 1]) / 5**0.5)


def test_each_context_facet_is_a_row_of_the_table():
    world = random_world(1)
    main = world.states.facets["main"]
    states = States({"main": main, "negative": main, "evening": main}, NO_CHANGES)
    assert context_facets(states) == ("evening",)
    choice = Choice({m.name: m.grid[0] for m in MODELS}, 0.0, {"blend": {"content": 1.0}}, ("evening",))
    moment, shelf = moment_at(world.events, world.catalogue, 30), shelf_on(world.catalogue, 30)
    history = history_at(world.events, 30, world.catalogue.size)
    fitted = {m.name: m.fit(history, m.grid[0]) for m in MODELS}
    few = world.events.of(np.arange(3))
    profiles = profiles_on(states, shelf, few.users, 30)
    own = history_at(few, 30, world.catalogue.size)
    rows = dict(scores_of(choice, fitted, moment, shelf, own, profiles))
    assert tuple(rows) == choice.rows and tuple(rows)[-2:] == ("content_with_evening", "blend")
    # The same profile as a context changes nothing, and a blend of content alone ranks like content.
    assert rows["content_with_evening"] == pytest.approx(rows["content"])
    assert np.argsort(rows["blend"]).tolist() == np.argsort(rows["content"]).tolist()
