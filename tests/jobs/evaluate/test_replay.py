"""The replay as a whole: leaks are found, a perfect signal wins, and noise has no winner."""

from dataclasses import replace

import numpy as np
import pytest

from jobs.evaluate import replay as replays
from jobs.evaluate.replay import replay
from jobs.evaluate.summary import Run, summarise
from jobs.evaluate.tally import Tally
from jobs.io.messages import JobError
from jobs.rank import events as known_then
from jobs.rank.cases import ALLOW, EXCLUDE, ONLY, Rules, blocks, cases_at
from jobs.rank.choice import CONTENT
from jobs.rank.events import Events
from jobs.rank.metrics import NDCG
from jobs.rank.models import DECAYED
from jobs.rank.moment import MOST_STEPS, fit_days, moment_at, replay_steps, tuning_steps
from jobs.rank.tuning import ALL, Tuned, rehearse, tune
from jobs.rank.world import World
from tests.jobs.rank.worlds import catalogue_of, events_of, random_world, world_of

RULES = Rules(k=5, horizon=7, repeat=ALLOW)
FIRST, LAST = 40, 59

pytestmark = pytest.mark.usefixtures("few_points")


def tuned_and_judged(world: World, rules: Rules = RULES) -> tuple[Tuned, Tally]:
    before = world.events.as_of(FIRST - 1)
    steps = tuning_steps(before, FIRST, rules.horizon, 7)
    plan = rehearse(before, world.catalogue, steps, rules)
    tuned = tune(plan, world.states, rules)
    return tuned, replay(world, replay_steps(FIRST, LAST, rules.horizon, 7), rules, tuned.choice)


def figures(tally: Tally) -> dict[str, float]:
    return dict(zip(tally.models, tally.overall.mean()[:, NDCG], strict=True))


def with_event(world: World, row: tuple[int, int, int, int]) -> Events:
    """The world's events with one more of user, item, day and log day."""
    old = world.events
    rows = zip(old.row_user, old.item, old.day, old.arrived, strict=True)
    return events_of([*[tuple(map(int, one)) for one in rows], row], len(old.users))


# ---- leaks


def test_an_event_that_tells_the_future_changes_nothing():
    """One of before the step that arrives after it, of an item that nobody else chooses: no figure moves.

    It is in the stored state too, which is not used then.
    """
    world = random_world(1)
    planted = with_event(world, (7, 3, 35, 62))
    told = world_of(planted, world.catalogue)
    changes = replace(
        told.states.changes,
        users=np.array([7], np.int64),
        since=np.array([35], np.int32),
        arrived=np.array([62], np.int32),
    )
    told = replace(told, states=replace(told.states, changes=changes))
    kept = [world.states.facets["main"].users != 7, world.states.facets["main"].day < 35]
    own = world.states.facets["main"]
    old = replace(
        own, users=own.users[kept[0] | kept[1]], day=own.day[kept[0] | kept[1]],
        vectors=own.vectors[kept[0] | kept[1]],
    )  # fmt: skip
    blind = replace(world, states=replace(world.states, facets={"main": old}))
    assert figures(tuned_and_judged(told)[1]) == figures(tuned_and_judged(blind)[1])


def test_a_leak_in_what_is_known_then_is_refused(monkeypatch):
    """A mistake that lets events in by their own day alone, or all of them, ends the run."""
    world = random_world(1)
    told = replace(world, events=with_event(world, (7, 3, 35, 62)))
    monkeypatch.setattr(known_then.Events, "known", lambda self, day: self.day <= day)
    with pytest.raises(JobError, match="would know the future"):
        tuned_and_judged(told)
    monkeypatch.setattr(known_then.Events, "known", lambda self, day: self.day < 99)
    with pytest.raises(JobError, match="would know the future"):
        tuned_and_judged(world)


def test_tuning_never_reads_the_test():
    """Whatever happens from the first day of the test on, the same parameters and figures are chosen."""
    world = random_world(2)
    kept = world.events.day < FIRST
    cut = replace(world, events=world.events.where(kept))
    assert tuned_and_judged(world)[0] == tuned_and_judged(cut)[0]


def test_the_steps_before_the_test_end_before_it():
    nobody = events_of([], users=1)
    for first, horizon in ((940, 7), (941, 1), (950, 30)):
        steps = tuning_steps(nobody, first, horizon, 7)
        assert max(steps) + horizon == first - 1 and len(steps) == MOST_STEPS
        assert min(replay_steps(first, first + 99, horizon, 7)) + 1 == first
        assert max(replay_steps(first, first + 99, horizon, 7)) + horizon <= first + 99


def test_tuning_goes_back_until_it_has_users_enough():
    events = random_world(0).events
    assert len(tuning_steps(events, FIRST, 7, 7)) == 4


def test_models_are_fitted_weekly_and_slow_ones_once_the_history_has_grown():
    events = events_of([(0, 0, day) for day in range(200)] + [(0, 0, 210)] * 50, users=1)
    days = fit_days(events, [199, 200, 203, 206, 213])
    assert days.weekly == {199: 199, 200: 199, 203: 199, 206: 206, 213: 213}
    # On day 206 there is nothing new; on day 213 there is.
    assert days.grown == {199: 199, 200: 199, 203: 199, 206: 199, 213: 213}


# ---- signals


def test_a_perfect_signal_wins():
    """Each user always chooses from one group of items whose vectors agree, and never the same item twice.

    Popularity knows nothing of it; content does.
    """
    users, groups, size, days = 20, 4, 60, 60
    vectors = np.repeat(np.eye(groups, dtype=np.float32), size, axis=0)
    rows = [(user, (user % groups) * size + day, day) for user in range(users) for day in range(days)]
    world = world_of(events_of(rows, users), catalogue_of(groups * size, vectors))
    found = figures(tuned_and_judged(world, replace(RULES, repeat=EXCLUDE))[1])
    assert found[CONTENT] == pytest.approx(1.0) and found[ALL] == pytest.approx(1.0)
    assert found["popularity"] < 0.5


def test_noise_has_no_winner():
    """In 19 of 20 logs without a signal no model beats the best baseline, and intervals lie on zero."""
    silent = covered = 0
    for seed in range(20):
        world = random_world(seed, users=40, items=20, days=LAST + 1, a_day=12)
        tuned, tally = tuned_and_judged(world)
        result = summarise(Run(FIRST, LAST, 7, RULES, seed, {}), tuned, tally, 20, [])
        assert result["users"] > 30
        silent += all(one["verdict"] == "no difference shown" for one in result["comparisons"])
        main = [c for c in result["comparisons"] if (c["model"], c["reference"]) == (ALL, DECAYED.name)]
        covered += all(one["low"] <= 0 <= one["high"] for one in main)
    assert silent >= 19 and covered >= 19


# ---- cases


def test_repeats_are_allowed_excluded_or_alone():
    """User 0 had items 1 and 2, and chooses 1 and 3 in the horizon; item 4 is unknown then."""
    events = events_of([(0, 1, 1), (0, 2, 2), (0, 1, 12), (0, 3, 13), (0, 4, 13), (1, 3, 5)], users=2)
    moment = moment_at(events, catalogue_of(5, known=[0, 0, 0, 0, 13]), 10)
    truths = {}
    for repeat in (ALLOW, EXCLUDE, ONLY):
        cases, silent = cases_at(events, moment, replace(RULES, repeat=repeat))
        assert len(cases) == 1 and silent == 1
        truths[repeat] = (cases.truths[0].items.tolist(), cases.truths[0].missed)
    assert truths == {ALLOW: ([1, 3], 1), EXCLUDE: ([3], 1), ONLY: ([1], 0)}


def test_what_was_only_looked_at_is_no_repeat():
    """User 0 looked at item 1 and chose item 2; lists leave out (udfs/rank.py) what this does."""
    events = events_of([(0, 1, 1), (0, 2, 2), (0, 1, 12), (0, 2, 13)], users=1)
    events = replace(events, chosen=np.array([False, True, True, True]))
    moment = moment_at(events, catalogue_of(3), 10)
    cases, _ = cases_at(events, moment, replace(RULES, repeat=EXCLUDE))
    assert (cases.truths[0].items.tolist(), cases.had[0].tolist()) == ([1], [2])


def test_who_was_never_seen_or_chooses_nothing_is_not_judged():
    events = events_of([(0, 1, 1), (1, 1, 12), (2, 1, 1), (2, 2, 15)], users=3)
    cases, silent = cases_at(events, moment_at(events, catalogue_of(3), 10), RULES)
    assert cases.events.users.tolist() == [2] and silent == 1


def test_figures_do_not_depend_on_blocks(monkeypatch):
    world = random_world(4)
    whole = tuned_and_judged(world)[1]
    monkeypatch.setattr(replays, "blocks", lambda cases: blocks(cases, 7))
    parts = tuned_and_judged(world)[1]
    assert whole.overall.sums.tobytes() == parts.overall.sums.tobytes()
    assert whole.exposures.tolist() == parts.exposures.tolist()


def test_a_range_shorter_than_the_horizon_is_refused():
    with pytest.raises(JobError, match="shorter than the horizon"):
        replay_steps(10, 15, 7, 7)


def test_the_days_of_a_user_are_averaged_first():
    """User 0 is judged at two steps, and counts as much as user 1, who is judged at one."""
    rows = [(0, 0, 1), (1, 0, 1), (2, 0, 1), (0, 0, 42), (1, 1, 42), (0, 1, 50)]
    world = world_of(events_of(rows, users=3), catalogue_of(2))
    rules = replace(RULES, k=1)
    tuned, _ = tuned_and_judged(random_world(1))
    choice = replace(tuned.choice, facets=())
    tally = replay(world, replay_steps(FIRST, LAST, 7, 7), rules, choice)
    # Item 0 is most popular: user 0 is right at the first step and wrong at the second, user 1 is wrong.
    assert tally.overall.rows.tolist() == [2, 1]
    assert figures(tally)["popularity"] == pytest.approx((0.5 + 0.0) / 2)
