"""What is chosen before the test, and how ties and means are decided."""

import numpy as np
import pytest

from jobs.io.messages import JobError
from jobs.rank.cases import ALLOW, Rules
from jobs.rank.models import DECAYED, MODELS, OWN
from jobs.rank.moment import tuning_steps
from jobs.rank.tuning import (
    ALL,
    POPULARITY_CONTENT,
    WITHOUT_CONTENT,
    Mean,
    Trial,
    best_of,
    rehearse,
    tune,
)
from tests.jobs.rank.worlds import catalogue_of, events_of, random_world, world_of

RULES = Rules(k=5, horizon=7, repeat=ALLOW)
FIRST = 40


def test_a_mean_is_by_user_first():
    mean = Mean()
    mean.add(np.array([3, 5]), np.array([1.0, 0.0]))
    mean.add(np.array([3]), np.array([0.0]))
    assert float(mean.value()) == 0.25


def test_of_equal_points_the_first_is_chosen():
    trials = [Trial("m", {"k": k}, figure) for k, figure in ((1, 0.1), (2, 0.3), (3, 0.3))]
    assert best_of(trials).parameters == {"k": 2}


def test_the_half_life_follows_the_log(few_points, monkeypatch):
    """Everybody turns to another item every ten days: only what is recent helps."""
    monkeypatch.setitem(DECAYED.__dict__, "grid", ({"half_life": 365}, {"half_life": 7}))
    rows = [(user, day // 10, day) for user in range(12) for day in range(FIRST + 20)]
    world = world_of(events_of(rows, 12), catalogue_of(8))
    before = world.events.as_of(FIRST - 1)
    plan = rehearse(before, world.catalogue, tuning_steps(before, FIRST, 7, 7), Rules(1, 7, ALLOW))
    assert tune(plan, world.states, Rules(1, 7, ALLOW)).choice.parameters["decayed_popularity"] == {
        "half_life": 7
    }


def test_blends_keep_to_their_parts_and_everything_tried_is_recorded(few_points):
    world = random_world(2)
    before = world.events.as_of(FIRST - 1)
    plan = rehearse(before, world.catalogue, tuning_steps(before, FIRST, 7, 7), RULES)
    tuned = tune(plan, world.states, RULES)
    blends = tuned.choice.blends
    assert blends[WITHOUT_CONTENT]["content"] == 0 and blends[POPULARITY_CONTENT][OWN.name] == 0
    for weights in blends.values():
        assert len(weights) == 4 and sum(weights.values()) == pytest.approx(1)
    tried = [trial.name for trial in tuned.trials]
    assert set(tried) == {*[model.name for model in MODELS], "content", *blends}
    assert (tried.count(ALL), tried.count(WITHOUT_CONTENT), tried.count(POPULARITY_CONTENT)) == (56, 21, 6)
    best = max(trial.ndcg for trial in tuned.trials if trial.name == ALL)
    assert best >= max(t.ndcg for t in tuned.trials if t.name in (WITHOUT_CONTENT, POPULARITY_CONTENT))


def test_nobody_to_tune_on_is_refused():
    world = world_of(events_of([(0, 0, 39)], users=1), catalogue_of(2))
    plan = rehearse(world.events, world.catalogue, tuning_steps(world.events, FIRST, 7, 7), RULES)
    with pytest.raises(JobError, match="choose a later --start"):
        tune(plan, world.states, RULES)
