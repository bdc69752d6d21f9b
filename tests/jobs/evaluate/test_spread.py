"""Judging on Spark's workers gives the bits of judging here, on any number of partitions."""

import numpy as np

from jobs.evaluate import spread
from jobs.evaluate.replay import replay
from jobs.evaluate.spread import arrays_of, load, models_of, save, spread_on
from jobs.rank.cases import ALLOW, Rules
from jobs.rank.catalogue import shelf_on
from jobs.rank.moment import moment_at, replay_steps, tuning_steps
from jobs.rank.tuning import rehearse, tune
from tests.jobs.evaluate.test_replay import FIRST, LAST
from tests.jobs.rank.worlds import random_world

RULES = Rules(k=5, horizon=7, repeat=ALLOW)


def test_partitions_do_not_change_a_figure(spark, monkeypatch, few_points):
    monkeypatch.setattr(spread, "FEW_BLOCKS", 1)
    world = random_world(3, users=200, a_day=120)
    before = world.events.as_of(FIRST - 1)
    plan = rehearse(before, world.catalogue, tuning_steps(before, FIRST, 7, 7), RULES)
    choice, steps = tune(plan, world.states, RULES).choice, replay_steps(FIRST, LAST, 7, 7)
    here = replay(world, steps, RULES, choice)
    assert here.overall.users > 150
    for partitions in (1, 3):
        there = replay(world, steps, RULES, choice, spread_on(spark, partitions))
        assert there.overall.sums.tobytes() == here.overall.sums.tobytes()
        assert there.exposures.tolist() == here.exposures.tolist()
        assert [step.ndcg.tolist() for step in there.steps] == [step.ndcg.tolist() for step in here.steps]


def test_models_come_back_from_files(tmp_path):
    world = random_world(1)
    moment, shelf = moment_at(world.events, world.catalogue, FIRST), shelf_on(world.catalogue, FIRST)
    fitted = {"ease": {"weights": np.eye(3), "items": np.arange(3)}, "popularity": {"popularity": np.ones(3)}}
    save(arrays_of(fitted, moment, shelf), tmp_path)
    found, again, vectors = models_of(load(tmp_path), FIRST)
    assert found.keys() == fitted.keys() and found["ease"]["weights"].tolist() == np.eye(3).tolist()
    assert again.known.tolist() == moment.known.tolist() and again.day == FIRST
    assert vectors.centred.tolist() == shelf.centred.tolist()
