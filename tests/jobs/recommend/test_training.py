"""What training learns, that it learns the same again, and that lists are ranked as training judged them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from jobs.io.messages import JobError
from jobs.rank.blend import blended, min_max
from jobs.rank.cases import ALLOW, EXCLUDE, ONLY, REPEATS, Rules, blocks, ranked, step_on
from jobs.rank.events import history_at
from jobs.rank.metrics import top_items
from jobs.rank.moment import day_of
from jobs.rank.tuning import rehearse
from jobs.rank.world import World
from jobs.recommend import models, training
from jobs.recommend.artefact import Artefact
from jobs.recommend.catalogue import Shop, ranker_of
from jobs.recommend.stored import Stored
from jobs.recommend.training import Trained, steps_between, train, tuned_parts
from schemas.settings import RecommendSettings
from tests.jobs.rank.worlds import catalogue_of, events_of, random_world, world_of
from tests.jobs.recommend.points import one_point_each
from udfs import rank
from udfs.rank import INPUT_SCHEMA, PARTS, rank_stream

FIRST, LAST = 40, 59
RULES = Rules(k=5, horizon=training.HORIZON, repeat=ALLOW)


@pytest.fixture
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    one_point_each(monkeypatch)


def quiet(_: str) -> None:
    """Tells nobody."""


def test_the_words_for_repeats_are_the_same_everywhere():
    assert (rank.ALLOW, rank.EXCLUDE, rank.ONLY) == REPEATS


def test_training_gives_the_same_again(few_points):
    world = random_world(1, users=40)
    one, two = (train(world, FIRST, LAST, RULES, quiet) for _ in range(2))
    assert (one.kind, one.parameters, one.metrics) == (two.kind, two.parameters, two.metrics)
    assert {k: v.tobytes() for k, v in one.arrays.items()} == {k: v.tobytes() for k, v in two.arrays.items()}
    weights = [one.parameters[f"weight_{part}"] for part in PARTS]
    assert min(weights) >= 0 and sum(weights) == pytest.approx(1)


def test_nothing_after_the_last_day_is_known(few_points):
    """Choices of later days change nothing."""
    world = random_world(1, users=40)
    rows = [
        (int(u), int(i), int(d))
        for u, i, d in zip(world.events.row_user, world.events.item, world.events.day, strict=True)
    ]
    later = events_of([*rows, *[(user, 0, LAST + 1) for user in range(40)]], 40)
    found = train(World(later, world.catalogue, world.states), FIRST, LAST, RULES, quiet)
    wanted = train(world, FIRST, LAST, RULES, quiet)
    assert (found.parameters, found.metrics) == (wanted.parameters, wanted.metrics)
    assert found.arrays["popularity"].tobytes() == wanted.arrays["popularity"].tobytes()


def test_people_who_buy_again_are_learned(few_points):
    """Everybody has one item for good: only what they had before tells it."""
    rows = [(user, user, day) for user in range(12) for day in range(0, 60, 3)]
    world = world_of(events_of(rows, 12), catalogue_of(12, np.ones((12, 4), np.float32)))
    found = train(world, FIRST, LAST, Rules(1, training.HORIZON, ALLOW), quiet)
    assert found.parameters["weight_own"] > 0 and found.metrics["ndcg"] == 1.0
    assert found.metrics["ndcg_popularity"] < 0.5


def test_the_half_life_is_chosen_by_what_came_next(few_points, monkeypatch):
    """All had the first item once; half of them turn to another one every ten days."""
    monkeypatch.setitem(models.SUPPORT.__dict__, "grid", ({"half_life": 365}, {"half_life": 7}))
    rows = [(user, day // 10, day) for user in range(12) for day in range(60) if day < 10 or user < 6]
    world = world_of(events_of(rows, 12), catalogue_of(8))
    found = train(world, FIRST - 7, LAST, Rules(1, training.HORIZON, ALLOW), quiet)
    assert found.parameters["popularity_half_life"] == 7


def test_days_without_anybody_known_are_refused():
    world = world_of(events_of([(0, 0, 45)], users=1), catalogue_of(2))
    with pytest.raises(JobError, match="choose another --start or --end"):
        train(world, FIRST, LAST, RULES, quiet)


# ---- lists are ranked as training judged them


def stored(trained: Trained, ids: pa.Array) -> Stored:
    near = rank.Near(*[trained.arrays[f"near_{name}"] for name in ("data", "items", "starts")])
    return Stored("v", trained.kind, trained.parameters, Artefact(ids, trained.arrays["popularity"], near))


def inputs(world: World, places: np.ndarray, ids: pa.Array, day: int) -> pa.RecordBatch:
    """The users as the lists' kernel takes them: their known choices and their latest states."""
    events, rows = world.events, []
    main = world.states.facets["main"]
    for place in places:
        own = range(events.starts[place], events.starts[place + 1])
        latest = [n for n, key in enumerate(main.users) if key == events.users[place] and main.day[n] <= day]
        rows.append(
            {
                "user_id": str(place),
                "main": main.vectors[latest[-1]].tolist() if latest else None,
                "negative": None,
                "facet": None,
                "events": [
                    {
                        "item_id": ids[int(events.item[n])].as_py(),
                        "event_id": str(n),
                        "day": int(events.day[n]),
                        "chosen": True,
                        "share": 0.0,
                    }
                    for n in own
                    if events.day[n] <= day
                ],
            }
        )
    return pa.RecordBatch.from_pylist(rows, INPUT_SCHEMA)


@pytest.mark.parametrize("repeat", [ALLOW, EXCLUDE, ONLY])
@pytest.mark.parametrize("kind", [model.name for model in models.COLLABORATIVE])
def test_lists_are_those_that_training_judged(kind, repeat, few_points, monkeypatch):
    chosen = [model for model in models.COLLABORATIVE if model.name == kind]
    monkeypatch.setattr(training, "COLLABORATIVE", tuple(chosen))
    rules = Rules(5, training.HORIZON, repeat)
    world, day = random_world(2, users=30), LAST - training.HORIZON
    trained = train(world, FIRST, day, rules, quiet)
    weights = {f"weight_{part}": 0.2 for part in PARTS}
    trained = replace(trained, parameters=trained.parameters | weights)
    # As training scores: the step's own fit, whose day is that of the trained one.
    plan = rehearse(world.events.as_of(LAST), world.catalogue, [day], rules)
    _, scorers = tuned_parts(plan, world, rules, quiet)
    moment, cases, _ = step_on(world.events, world.catalogue, day, rules)
    ids = pa.array([f"i{n:02}" for n in range(world.catalogue.size)])
    settings = RecommendSettings(top=5, repeat=repeat)
    shop = Shop(world.catalogue, ids, pa.array([], pa.string()))
    given = ranker_of(shop, stored(trained, ids), settings, day_of(day))
    for block in blocks(cases):
        history = history_at(block.events, day, world.catalogue.size)
        parts = [scorer(plan.steps[0])(block, history) for scorer in scorers.values()]
        scores = blended([min_max(part, moment.known) for part in parts], [0.2] * len(PARTS))
        places = np.searchsorted(world.events.users, block.events.users)
        batch = inputs(world, places, ids, day)
        found = pa.Table.from_batches(rank_stream(iter([batch]), given)).to_pylist()
        for row, place in enumerate(places):
            own = [one for one in found if one["user_id"] == str(place)]
            allowed = ranked(scores[row], block.had[row], moment, rules)
            best = top_items(allowed, 5)
            assert [one["score"] for one in own] == pytest.approx(allowed[best].tolist(), abs=1e-5)


def test_steps_are_weekly_and_end_within_the_days():
    assert steps_between(10, 30) == [9, 16, 23] and steps_between(10, 16) == [9]
    with pytest.raises(JobError, match=r"is less than a week.*choose an earlier --start$"):
        steps_between(10, 15)
