"""The published tables as the replay's arrays: what is read, and what tells the future."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import functions as F

from jobs.evaluate.exposure import exposure_of
from jobs.io.messages import JobError
from jobs.io.warehouse import Warehouse
from jobs.rank import tables
from jobs.rank.events import NEVER
from jobs.rank.moment import day_number
from jobs.rank.tables import Published, Size, read_world, sampled, size_of, with_retractions
from jobs.rank.target import counted, default_target, target
from schemas import behavior_events, items, profile_states, text_embeddings
from schemas.settings import FoldSettings
from tests.builders import frame, row, store

DAY = date(2025, 3, 3)
FOLD = FoldSettings()
NOON = datetime(2025, 3, 3, 12, tzinfo=UTC)


def day(number: int) -> date:
    return DAY + timedelta(days=number)


def event(user: str, item: str | None, happened: int, **values) -> dict:
    """A purchase on a day counted from DAY; `late`: days until it arrives."""
    late = values.pop("late", 0)
    given = {
        "event_id": f"{user}-{item}-{happened}",
        "user_id": user,
        "item_id": item,
        "event_type": "purchase",
        "event_ts": NOON + timedelta(days=happened),
        "event_date": day(happened),
        "log_date": day(happened + late),
    }
    return row(behavior_events.TABLE, **(given | values))


def state(user: str, facet: str, folded: int, vector: list[float]) -> dict:
    values = {"user_id": user, "facet": facet, "as_of_date": day(folded), "model_key": "m"}
    return row(profile_states.TABLE, **values, vector=vector)


EVENTS = [
    event("a", "2", 0),
    event("a", "1", 1),
    # Arrives on day 6, and is not known before.
    event("b", "1", 2, late=4),
    event("b", "2", 1),
    # Taken back on day 5.
    event("c", "1", 0, event_id="wrong"),
    event("c", None, 5, event_type="retract", retracts_event_id="wrong"),
    # Neither is an event of a user with an item that counts.
    event("c", None, 3),
    event("c", "3", 3, event_type="impression"),
]
STATES = [
    state("a", "main", 0, [1.0, 0.0]),
    state("a", "main", 1, [2.0, 0.0]),
    state("a", "main", 9, [3.0, 0.0]),
    state("a", "negative", 1, [0.0, 1.0]),
    state("b", "main", 1, [4.0, 0.0]),
    state("b", "main", 2, [5.0, 0.0]),
]


@pytest.fixture(scope="module")
def published(spark, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("evaluate") / "warehouse")
    versions = [
        row(items.TABLE, item_id="1", text="x", text_key="old", valid_from=day(0)),
        row(items.TABLE, item_id="1", text="y", text_key="new", valid_from=day(4)),
        # Known before anybody touched it; its text has no vector.
        row(items.TABLE, item_id="3", text="z", text_key="none", valid_from=day(2)),
    ]
    vectors = [
        row(text_embeddings.TABLE, text_key="new", model_key="m", dim=2, vector=[0.0, 1.0]),
        row(text_embeddings.TABLE, text_key="old", model_key="m", dim=2, vector=[1.0, 0.0]),
        row(text_embeddings.TABLE, text_key="old", model_key="other", dim=3, vector=[1.0, 1.0, 1.0]),
    ]
    stored = (
        (behavior_events, EVENTS),
        (items, versions),
        (text_embeddings, vectors),
        (profile_states, STATES),
    )
    for table, rows in stored:
        store(spark, folder, table.TABLE, rows)
    return Published(Warehouse(spark, folder), {table.TABLE.name: 1 for table, _ in stored})


@pytest.fixture(scope="module")
def world(published):
    events = with_retractions(published.read(behavior_events.TABLE)).withColumn("chosen", F.lit(True))
    steps = [day_number(day(number)) for number in (3, 7)]
    return read_world(published, events, FOLD, "m", steps)[0]


def names(world) -> dict[int, str]:
    """The users by key, told by how many events they have and when."""
    order = {(2, 0): "a", (2, 1): "b", (1, 0): "c"}
    first = day_number(DAY)
    return {
        int(key): order[(int(end - start), int(world.events.day[start]) - first)]
        for key, start, end in zip(
            world.events.users, world.events.starts[:-1], world.events.starts[1:], strict=True
        )
    }


def test_events_by_user_and_time_with_their_arrivals_and_retractions(world):
    first, events = day_number(DAY), world.events
    found = {
        name: [
            (
                int(events.item[i]),
                int(events.day[i]) - first,
                int(events.arrived[i]) - first,
                int(events.gone[i]),
            )
            for i in np.flatnonzero(events.users[events.row_user] == key)
        ]
        for key, name in names(world).items()
    }
    assert found["a"] == [(1, 0, 0, NEVER), (0, 1, 1, NEVER)]
    assert found["b"] == [(1, 1, 1, NEVER), (0, 2, 6, NEVER)]
    assert found["c"] == [(0, 0, 0, first + 5)]
    assert world.events.users.tolist() == sorted(world.events.users.tolist())


def test_the_catalogue_has_the_texts_of_the_day(world):
    first, catalogue = day_number(DAY), world.catalogue
    # Items 1, 2, 3: item 2 is known by its first event, and has no text.
    assert (catalogue.known - first).tolist() == [0, 0, 2]
    vectors = [
        [catalogue.vectors[text].tolist() for text in catalogue.texts_on(first + n)[:1]] for n in (3, 4)
    ]
    assert vectors == [[[1.0, 0.0]], [[0.0, 1.0]]]
    assert catalogue.texts_on(first + 9)[1:].tolist() == [-1, -1]


def test_states_that_steps_can_use(world):
    first, main = day_number(DAY), world.states.facets["main"]
    users = {name: key for key, name in names(world).items()}
    kept = {
        (name, int(d) - first)
        for d, k in zip(main.day, main.users, strict=True)
        for name, u in users.items()
        if u == k
    }
    # Of user a the state of day 1 alone is the latest by a step; b has a late event, and keeps both.
    assert kept == {("a", 1), ("b", 1), ("b", 2)}
    asked = np.sort(np.array(list(users.values()), np.int64))
    rows = world.states.usable("main", asked, first + 3)
    by_user = {int(key): main.vectors[r][0] if r >= 0 else None for key, r in zip(asked, rows, strict=True)}
    # On day 3 nobody knew of b's event of day 2.
    assert (by_user[users["a"]], by_user[users["b"]], by_user[users["c"]]) == (2.0, 4.0, None)


def test_a_warehouse_without_vectors_has_no_profiles(published):
    events = with_retractions(published.read(behavior_events.TABLE)).withColumn("chosen", F.lit(True))
    found, names = read_world(published, events, FOLD, "unknown", [day_number(day(3))])
    assert names.to_pylist() == ["1", "2", "3"]
    assert list(found.states.facets) == ["main"] and len(found.states.facets["main"].users) == 0


def test_more_items_than_can_be_ranked_are_refused_those_of_events_alone_included(published, monkeypatch):
    monkeypatch.setattr(tables, "MOST_ITEMS", 2)
    events = published.read(behavior_events.TABLE).where(counted(FOLD))
    with pytest.raises(JobError, match="the log has 3 items, and at most 2 can be ranked"):
        tables.read_catalogue(published, events, "m")


def test_a_sample_takes_users_whole(spark):
    events = frame(spark, behavior_events.TABLE, [event(f"u{n % 50}", str(n), n % 7) for n in range(200)])
    kept = {row["user_id"] for row in sampled(events, 0.4).collect()}
    assert 5 < len(kept) < 40
    assert sampled(events, 0.4).count() == events.where(F.col("user_id").isin(list(kept))).count()
    assert sampled(events, 1.0).count() == 200


def test_the_size_counts_what_the_driver_would_hold(published):
    events = published.read(behavior_events.TABLE).where(counted(FOLD))
    steps = [day_number(day(number)) for number in (1, 7)]
    # Four states of the days 1..7, and one of before for each of three users.
    assert size_of(published, events, steps) == Size(events=5, users=3, states=4 + 3)


# ---- what is a choice

KINDS = [
    event("u", "purchase", 0),
    event("u", "click", 0, event_type="click"),
    event("u", "liked", 0, event_type="rating", rating=0.75),
    event("u", "meh", 0, event_type="rating", rating=0.7),
    event("u", "returned", 0, event_type="return"),
    event("u", "unknown", 0, event_type="wave"),
    event("u", "shown", 0, event_type="impression"),
    event("u", None, 0),
]


def test_choices_by_default(spark):
    events = frame(spark, behavior_events.TABLE, KINDS)
    negative = F.col("event_type") == "return"
    chosen = events.where(counted(FOLD) & default_target(FOLD, negative)).collect()
    assert [row["item_id"] for row in chosen] == ["purchase", "liked"]
    assert events.where(counted(FOLD)).count() == 6


def test_a_target_is_a_predicate_and_no_code(spark):
    events = frame(spark, behavior_events.TABLE, KINDS)
    assert events.where(target(events, "rating < 0.72")).count() == 1
    for text in ("rand() < 0.5", "rating < (SELECT 1)", "no_such_column = 1", "item_id"):
        with pytest.raises(JobError, match="--target"):
            target(events, text)


# ---- impressions


def shown(user: str, item: str, at: int, **extra: str) -> dict:
    return event(user, item, at, event_type="impression", extra=extra)


def exposure(spark, rows, horizon=7):
    events = frame(spark, behavior_events.TABLE, rows)
    return exposure_of(events.withColumn("chosen", F.col("event_type") == "purchase"), horizon)


def test_without_impressions_nothing_is_known(spark):
    assert exposure(spark, [event("a", "1", 0)]) is None


def test_what_was_shown_clicked_and_chosen(spark):
    rows = [
        shown("a", "1", 0, position="1", propensity="0.5"),
        shown("a", "2", 0, position="2", propensity="0.25"),
        shown("b", "1", 0, position="11", propensity="0"),
        # Clicked before it was shown, and bought too late.
        shown("b", "2", 3, position="1"),
        event("a", "1", 0, event_type="click"),
        event("a", "1", 2),
        event("b", "2", 2, event_type="click"),
        event("b", "2", 11),
    ]
    found = exposure(spark, rows)
    assert (found["impressions"], found["users"], found["with_propensity"]) == (4, 2, 2)
    assert found["ctr"] == 1 / 4
    # The eleventh place does not count.
    assert found["conversion"] == pytest.approx(1 / 3)
    # Weights 2 and 4: the one clicked has 2.
    assert found["ctr_weighted"] == pytest.approx(2 / 6)
