"""The gate: what is better or as good goes into force, what is worse for anybody's bucket does not."""

import numpy as np
import pytest

from jobs.rank.cases import ALLOW, BUCKET_NAMES, Rules
from jobs.recommend import training
from jobs.recommend.gate import EVERYBODY, FEWEST_USERS, IN_FORCE, NEW, POPULARITY, InForce, judge, verdict_of
from jobs.recommend.training import Trained, of_part, split, train
from tests.jobs.rank.worlds import catalogue_of, events_of, random_world, world_of
from tests.jobs.recommend.points import one_point_each
from tests.jobs.recommend.test_training import quiet
from udfs.rank import PARTS

NAMES = {POPULARITY: "decayed popularity", IN_FORCE: "v1 in force"}
FIRST, LAST = 28, 59
RULES = Rules(1, training.HORIZON, ALLOW)


@pytest.fixture
def few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    one_point_each(monkeypatch)


def groups(gains: dict[str, dict[str, float]], users: int = 100, seed: int = 0) -> dict[str, dict]:
    """Noise around a base of each user, and what rankers gain in a bucket; each user is in one bucket."""
    draws, found = np.random.default_rng(seed), {}
    for bucket in BUCKET_NAMES:
        base = draws.uniform(size=users)
        found[bucket] = {
            name: base + draws.normal(scale=0.1, size=users) + gains.get(name, {}).get(bucket, 0.0)
            for name in (NEW, *NAMES)
        }
    every = {name: np.concatenate([found[b][name] for b in BUCKET_NAMES]) for name in (NEW, *NAMES)}
    return {EVERYBODY: every} | found


def test_a_better_one_is_accepted_and_its_figures_are_told():
    found = verdict_of(groups({NEW: dict.fromkeys(BUCKET_NAMES, 0.2)}), NAMES)
    assert found.accepted and "v1 in force for all users: +0.1" in found.reason
    assert found.metrics["held_users_all"] == 400 and found.metrics["held_users_5-19"] == 100
    gained = found.metrics["held_ndcg_new_5-19"] - found.metrics["held_ndcg_in_force_5-19"]
    assert gained == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("reference", NAMES)
@pytest.mark.parametrize("bucket", BUCKET_NAMES)
def test_one_that_is_worse_in_one_bucket_is_refused_however_good_it_is_elsewhere(reference, bucket):
    gains = {NEW: dict.fromkeys(BUCKET_NAMES, 0.2), reference: {bucket: 0.3}}
    found = verdict_of(groups(gains), NAMES)
    assert not found.accepted
    assert found.reason.startswith(f"worse than {NAMES[reference]} for users with {bucket} events: -0.")
    assert ";" not in found.reason


def test_noise_is_accepted():
    """All but about one in twenty."""
    accepted = [verdict_of(groups({}, FEWEST_USERS, seed), NAMES).accepted for seed in range(20)]
    assert accepted.count(False) <= 2


def test_a_bucket_with_few_users_counts_among_all_alone():
    found = groups({POPULARITY: {"100+": 1.5}}, seed=1)
    found["100+"] = {name: own[: FEWEST_USERS - 1] for name, own in found["100+"].items()}
    own = {name: np.concatenate([found[b][name] for b in BUCKET_NAMES]) for name in (NEW, *NAMES)}
    refused = verdict_of(found | {EVERYBODY: own}, NAMES)
    assert not refused.accepted and "all users" in refused.reason and "100+" not in refused.reason
    others = {name: np.concatenate([found[b][name] for b in BUCKET_NAMES[:-1]]) for name in (NEW, *NAMES)}
    accepted = verdict_of(found | {EVERYBODY: others}, NAMES)
    assert accepted.accepted and accepted.reason.endswith("too few users to judge alone: 100+")


def test_the_last_quarter_of_the_steps_is_held_out():
    events = events_of([(0, 0, day) for day in range(200)], 1)
    for steps, held in ((1, 0), (2, 1), (7, 1), (8, 2), (13, 3)):
        asked = list(range(10, 10 + 7 * steps, 7))
        assert split(events, asked) == (asked[: steps - held], asked[steps - held :])


def test_steps_without_anybody_to_ask_are_not_held_out():
    events = events_of([(0, 0, day) for day in range(30)], 1)
    assert split(events, [1, 8, 15, 40, 47]) == ([1, 8], [15])


def regulars(users: int = 40):
    """Everybody has one item for good, so that only `own` tells it."""
    rows = [(user, user, day) for user in range(users) for day in range(0, 60, 3)]
    return world_of(events_of(rows, users), catalogue_of(users))


def worse(trained: Trained) -> InForce:
    """The same ranker, but by what is new alone."""
    weights = {f"weight_{part}": float(part == "freshness") for part in PARTS}
    return InForce("v1", trained.kind, trained.parameters | weights)


def test_rankers_are_judged_on_days_they_were_not_tuned_on(few_points):
    world = regulars()
    trained = train(world, FIRST, LAST, RULES, quiet)
    assert len(trained.held) == 1
    found = judge(world, trained, worse(trained), LAST, RULES, False)
    assert found.accepted and found.metrics["held_ndcg_new_all"] == 1.0
    assert found.metrics["held_ndcg_in_force_all"] < 0.1 and found.metrics["held_users_all"] == 40


def test_what_happens_on_held_out_days_does_not_tune(few_points):
    """From the first held-out day on, everybody turns to one item."""
    world = regulars()
    trained = train(world, FIRST, LAST, RULES, quiet)
    first = trained.held[0] + 1
    rows = [(user, user if day < first else 0, day) for user in range(40) for day in range(60)]
    rows = [row for row in rows if row[2] % 3 == 0]
    turned = train(world_of(events_of(rows, 40), world.catalogue), FIRST, LAST, RULES, quiet)
    assert (turned.parameters, turned.metrics) == (trained.parameters, trained.metrics)
    assert turned.arrays["popularity"].tobytes() != trained.arrays["popularity"].tobytes()


def test_a_ranker_that_a_later_world_made_worse_is_refused(few_points):
    """What was learned of regulars serves nobody once all turn to two new items."""
    rows = [(user, user if day < 45 else 40 + day % 2, day) for user in range(40) for day in range(60)]
    world = world_of(events_of(rows, 40), catalogue_of(42))
    trained = train(world, FIRST, LAST, RULES, quiet)
    popular = {f"weight_{part}": float(part == "popularity") for part in PARTS}
    rival = InForce("v1", trained.kind, trained.parameters | popular | {"popularity_half_life": 1.0})
    found = judge(world, trained, rival, LAST, RULES, True)
    assert not found.accepted and "worse than" in found.reason


def test_the_same_ranker_is_no_worse_than_itself(few_points):
    world = random_world(3, users=60)
    trained = train(world, FIRST, LAST, RULES, quiet)
    found = judge(world, trained, InForce("v1", trained.kind, trained.parameters), LAST, RULES, False)
    assert found.metrics["held_ndcg_new_all"] == found.metrics["held_ndcg_in_force_all"]


@pytest.mark.parametrize(
    ("first", "users", "told"), [(53, 40, "only one week"), (FIRST, FEWEST_USERS - 1, "29 users chose")]
)
def test_what_cannot_be_judged_replaces_nothing_unless_asked(first, users, told, few_points):
    world = regulars(users)
    trained = train(world, first, LAST, RULES, quiet)
    alone = judge(world, trained, None, LAST, RULES, False)
    kept = judge(world, trained, worse(trained), LAST, RULES, False)
    asked = judge(world, trained, worse(trained), LAST, RULES, True)
    assert [one.accepted for one in (alone, kept, asked)] == [True, False, True]
    assert all(told in one.reason for one in (alone, kept, asked))
    assert "v1 stays in force" in kept.reason and "no model was in force" in alone.reason


def test_a_part_has_its_own_parameters_alone():
    given = {"weight_own": 0.4, "own_half_life": 7.0, "content_aversion": 0.5, "popularity_half_life": 3.0}
    assert of_part(given, "own") == {"half_life": 7.0} and of_part(given, "content") == {"aversion": 0.5}
    assert of_part(given, "collaborative") == {}
