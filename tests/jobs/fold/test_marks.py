"""Weights and facets of events.

Floods (bursts, days beyond the cap, impossible minutes) have no weight, as by a plain count of the same
rules; and facet predicates must give the same answer about an event every time.
"""

from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from jobs.fold import marks
from jobs.fold.facets import facets_of, require_predicates, with_attributes, with_seen
from jobs.fold.marks import (
    FOLDED,
    RETRACT,
    ZERO_WEIGHT,
    by_facet,
    count_fates,
    count_too_late,
    mark_events,
    missed_retractions,
)
from jobs.io.days import Days
from jobs.io.messages import JobError
from schemas import behavior_events, rejected_texts, text_embeddings
from schemas.fold_settings import FacetSettings, FoldSettings
from tests.builders import row

# ---- floods

RULES = FoldSettings(daily_cap=12, burst_repeats=2, burst_seconds=10, minute_limit=8)
START = datetime(2025, 4, 1, tzinfo=UTC)
SCHEMA = (
    "user_id string, event_date date, event_ts timestamp, event_id string, event_type string, item_id string"
)


def floods(events):
    """event_ids of what has no weight only because it is a flood, by the rules in plain Python.

    events: (user, second, id, item, fate) of one day.
    """
    found = set()
    for user in {event[0] for event in events}:
        mine = sorted((e for e in events if e[0] == user), key=lambda e: (e[1], e[2]))
        counted = 0
        for n, (_, second, name, item, fate) in enumerate(mine):
            equal = [e for e in mine[:n] if e[3:] == (item, fate) and second - e[1] < RULES.burst_seconds]
            counted += fate == FOLDED
            if len(equal) >= RULES.burst_repeats or counted > RULES.daily_cap:
                found.add(name)
        before = [[e for e in mine[:n] if last[1] - e[1] < 60] for n, last in enumerate(mine)]
        if any(len(minute) >= RULES.minute_limit for minute in before):
            found |= {e[2] for e in mine}
    return found & {e[2] for e in events if e[4] == FOLDED}


def marked(spark, events):
    """event_ids of what has no weight.

    events: (user, second, id, item, fate) of one day, where the fate is FOLDED or RETRACT.
    """
    rows = [
        (
            user,
            START.date(),
            START + timedelta(seconds=second),
            name,
            "view" if fate == FOLDED else RETRACT,
            item,
        )
        for user, second, name, item, fate in events
    ]
    return weightless(spark, spark.createDataFrame(rows, SCHEMA).withColumn("text_key", F.col("item_id")))


def weightless(spark, frame):
    found = marked_frame(spark, frame.withColumn("log_date", F.col("event_date"))).collect()
    fates = {row["event_id"]: row["fate"] for row in found}
    assert len(fates) == frame.count()
    return {name for name, fate in fates.items() if fate == ZERO_WEIGHT}


def marked_frame(spark, frame, refused=()):
    """The marked events of a frame with some columns. refused: text keys that the engine has refused."""
    missing = {
        c.name: F.lit(None).cast(c.type) for c in behavior_events.TABLE.columns if c.name not in frame.columns
    }
    no_vectors = spark.createDataFrame([], text_embeddings.TABLE.spark_schema())
    rows = [row(rejected_texts.TABLE, text_key=key) for key in refused]
    refusals = spark.createDataFrame(rows, rejected_texts.TABLE.spark_schema())
    return mark_events(frame.withColumns(missing), no_vectors, refusals, RULES, F.lit(True))


EVENT = st.tuples(
    st.sampled_from("ab"),
    st.integers(0, 200),
    st.sampled_from("xyz"),
    st.sampled_from([FOLDED, FOLDED, RETRACT]),
)


@pytest.mark.parametrize("few", [marks.FEW_DAYS, 0])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(days=st.lists(st.lists(EVENT, min_size=1, max_size=40), min_size=12, max_size=12))
def test_floods_are_marked_as_the_rules_say(spark, few, days):
    # A dozen days at a time, each with its own users: one Spark job takes longer than a thousand examples.
    events = [
        (f"{user}{d}", second, f"{d}-{n:03d}", item, fate)
        for d, day in enumerate(days)
        for n, (user, second, item, fate) in enumerate(day)
    ]
    with patch.object(marks, "FEW_DAYS", few):
        assert marked(spark, events) == floods(events)


def test_days_without_many_events_are_not_sorted(spark):
    few = [("a", n, f"a{n}", "x", FOLDED) for n in range(2)]
    different = [("b", n, f"b{n}", f"{n}", FOLDED) for n in range(8)]
    with patch.object(marks, "mark_floods", side_effect=AssertionError):
        assert marked(spark, few + different) == set()


def test_a_number_in_one_column_is_not_a_repeat_of_the_same_number_in_another(spark):
    numbers = [(0.5, None), (None, 0.5), (0.5, None), (None, 0.5)]
    rows = [
        ("a", START.date(), START + timedelta(seconds=n), f"a{n}", "rating", "x", *pair)
        for n, pair in enumerate(numbers)
    ]
    frame = spark.createDataFrame(rows, f"{SCHEMA}, rating double, value double")
    assert weightless(spark, frame.withColumn("text_key", F.col("item_id"))) == set()


# ---- counts


def test_retractions_without_effect_and_reasons_for_no_vector_are_counted(spark):
    day = START.date()
    window = [day - timedelta(RULES.window_days + 1), day - timedelta(RULES.window_days)]
    # user, event date, id, type, text, target
    rows = [
        ("a", window[0], "old", "view", "x", None),
        ("a", window[1], "young", "view", "x", None),
        ("b", day, "theirs", "view", "x", None),
        ("a", day, "bare", "view", None, None),
        ("a", day, "refused", "view", "bad", None),
        ("a", day, "taken back", "view", None, None),
        # Another user's event of the same id stays.
        ("b", day, "taken back", "view", "x", None),
        *[
            ("a", day, f"r{n}", "retract", None, target)
            for n, target in enumerate(["old", "young", "theirs", "nobody's", "taken back"])
        ],
        # In time, as it came a day earlier; its target is the same, but the day is not counted.
        ("a", day - timedelta(1), "early", "retract", None, "old"),
    ]
    schema = (
        "user_id string, event_date date, event_id string, event_type string, text_key string, "
        "retracts_event_id string"
    )
    frame = spark.createDataFrame(rows, schema).withColumns(
        {"log_date": F.col("event_date"), "event_ts": F.col("event_date").cast("timestamp")}
    )
    marked = marked_frame(spark, frame, ["bad"])
    found = count_fates(marked, Days.only(day), RULES.window_days).by_fate
    missed = missed_retractions(marked, Days.only(day), RULES.window_days)
    # "theirs" is stored, but another user's.
    assert count_too_late(missed, frame) == 1
    assert found == {
        "stored": 10,
        "folded": 2,
        "zero_weight": 0,
        "retract": 5,
        "retracted": 1,
        "without_vector": 2,
        "without_text": 1,
        "text_rejected": 1,
        "retract_missed": 3,
    }


# ---- weights in facets


def weights_by_facet(spark, fold, events):
    """Weights by event id and facet, and the counts by fate. events: (id, type, rating) of one day."""
    rows = [
        row(
            behavior_events.TABLE,
            user_id="u",
            event_id=name,
            event_ts=START + timedelta(minutes=n),
            event_date=START.date(),
            log_date=START.date(),
            event_type=kind,
            text_key=name,
            rating=rating,
        )
        for n, (name, kind, rating) in enumerate(events)
    ]
    stored = spark.createDataFrame(rows, behavior_events.TABLE.spark_schema())
    none = [spark.createDataFrame([], t.TABLE.spark_schema()) for t in (text_embeddings, rejected_texts)]
    marked = mark_events(stored, *none, fold, F.lit(True))
    counts = count_fates(marked, Days.only(START.date()), fold.window_days).by_fate
    found = {(r["event_id"], r["facet"]): r for r in by_facet(marked, fold.facet_names).collect()}
    return found, counts


EVENTS = [("a", "purchase", None), ("b", "view", None), ("c", "view", 0.5), ("d", "purchase", 0.1)]


def test_a_facet_weighs_events_by_its_own_type_weights_and_others_keep_theirs(spark):
    recent = FacetSettings(name="recent", type_weights={"purchase": 0.0, "view": 0.5}, half_life_days=7)
    plain, _ = weights_by_facet(spark, FoldSettings(), EVENTS)
    found, counts = weights_by_facet(spark, FoldSettings(facets=(recent,)), EVENTS)
    assert {key: r["weight"] for key, r in found.items()} == {
        ("a", "main"): 1.0,
        ("b", "main"): 0.2,
        ("c", "main"): 0.2 * 0.25,
        # A purchase has no weight there, and the largest one is a view's.
        ("b", "recent"): 1.0,
        ("c", "recent"): 0.25,
        ("d", "negative"): 1.0 * (0.25 + 0.75 * 0.8),
    }
    # Digests of other facets stay, so adding one makes nothing dirty; its own have its weights.
    for digest in ("digest_high", "digest_low"):
        assert all(found[key][digest] == plain[key][digest] for key in plain)
        assert found["b", "recent"][digest] != found["b", "main"][digest]
    assert counts["folded"] == 4


def test_an_event_without_weight_in_any_of_its_facets_is_counted_as_such(spark):
    main = FacetSettings(name="main", type_weights={"view": 0.0})
    found, counts = weights_by_facet(spark, FoldSettings(facets=(main,)), EVENTS)
    assert set(found) == {("a", "main"), ("d", "negative")}
    assert (counts["stored"], counts["folded"], counts["zero_weight"]) == (4, 2, 2)
    every = FacetSettings(name="every", where="true")
    found, counts = weights_by_facet(spark, FoldSettings(facets=(main, every)), EVENTS)
    assert set(found) == {("a", "main"), ("d", "negative"), ("a", "every"), ("b", "every"), ("c", "every")}
    assert (counts["folded"], counts["zero_weight"]) == (4, 0)


def test_events_count_towards_the_daily_cap_whatever_they_weigh_in_a_facet(spark):
    """Otherwise another facet's weights would change the states of main, whose hash stays."""
    main = FacetSettings(name="main", type_weights={"view": 0.0, "purchase": 1.0})
    fold = FoldSettings(facets=(main,), daily_cap=2)
    kinds = {"a": "view", "b": "view", "c": "view", "d": "purchase"}
    found, counts = weights_by_facet(spark, fold, [(name, kind, None) for name, kind in kinds.items()])
    assert found == {} and counts["zero_weight"] == 4


# ---- facet predicates


@pytest.fixture
def events(spark):
    rows = spark.createDataFrame([], behavior_events.TABLE.spark_schema())
    return with_seen(rows)


def some(where):
    return FoldSettings(facets=(FacetSettings(name="some", where=where),))


@pytest.mark.parametrize(
    "where",
    [
        "place = 'home'",
        "dayofweek(event_date) IN (1, 7)",
        "array_contains(companions, 'family')",
        "local_hour BETWEEN 18 AND 23",
        "local_weekday IN (6, 7)",
        "CAST(local_ts AS DATE) <> event_date",
        "item_attributes['department'] = 'shoes'",
        "true",
        None,
    ],
)
def test_a_predicate_that_follows_from_the_event_is_accepted(events, where):
    events.select(facets_of(events, some(where)))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("rand() < 0.5", "the same answer"),
        ("event_date = current_date()", "the same answer"),
        ("event_ts < now()", "the same answer"),
        ("log_date = event_date", "log_date"),
        ("event_id = 'e1'", "event_id"),
        ("source_file LIKE 'x%'", "source_file"),
        ("place = ", "PARSE"),
    ],
)
def test_a_predicate_that_changes_or_is_not_about_the_event_is_refused(events, where, message):
    with pytest.raises(JobError, match=message):
        facets_of(events, some(where))


def test_local_time_is_what_the_clock_of_the_user_showed(spark):
    at = datetime(2025, 4, 6, 22, 30, tzinfo=UTC)  # a Sunday
    rows = [("u", at, offset) for offset in (120, -330, 0, None)]
    events = with_seen(spark.createDataFrame(rows, "user_id string, event_ts timestamp, utc_offset_min int"))
    found = events.select("local_hour", "local_weekday", F.col("local_ts").cast("string")).collect()
    assert [tuple(row) for row in found] == [
        (0, 1, "2025-04-07 00:30:00"),
        (17, 7, "2025-04-06 17:00:00"),
        (22, 7, "2025-04-06 22:30:00"),
        (None, None, None),
    ]


def test_attributes_are_those_of_the_item_on_the_day_of_the_log_and_joined_only_on_demand(spark):
    day = START.date()
    versions = spark.createDataFrame(
        [("S1", {"k": "old"}, day - timedelta(3)), ("S1", {"k": "new"}, day)],
        "item_id string, attributes map<string,string>, valid_from date",
    )
    columns = behavior_events.TABLE.spark_schema()
    events = spark.createDataFrame([], columns)
    days = [day - timedelta(n) for n in (4, 3, 1, 0)]
    named = spark.createDataFrame([("S1", day) for day in days], "item_id string, log_date date")
    events = events.unionByName(named, allowMissingColumns=True)
    joined = with_attributes(events, versions, some("item_attributes['k'] = 'new'"))
    found = {row["log_date"]: (row["item_attributes"] or {}).get("k") for row in joined.collect()}
    assert [found[day] for day in days] == [None, "old", "old", "new"]
    assert with_attributes(events, versions, some("place = 'item_attributes'")).columns == events.columns


def test_predicates_are_checked_without_a_table(spark):
    require_predicates(spark, FoldSettings())
    with pytest.raises(JobError, match=r"facet some: .*item_attribute"):
        require_predicates(spark, some("item_attribute['department'] = 'x'"))
