"""What no person does weighs nothing: bursts, days beyond the cap, impossible minutes; against a plain count of the same rules."""

from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from jobs.fold import marks
from jobs.fold.marks import FOLDED, RETRACT, ZERO_WEIGHT, mark_events
from jobs.io import delta
from schemas import behavior_events, rejected_texts, text_embeddings, text_sentiments
from schemas.settings import FoldSettings

RULES = FoldSettings(daily_cap=12, burst_repeats=2, burst_seconds=10, minute_limit=8)
START = datetime(2025, 4, 1, tzinfo=UTC)
SCHEMA = (
    "user_id string, event_date date, event_ts timestamp, event_id string, event_type string, item_id string"
)


def floods(events):
    """event_ids of what weighs nothing though it could, by the rules' words; events: (user, second, id, item, fate) of one day."""
    found = set()
    for user in {event[0] for event in events}:
        mine = sorted((e for e in events if e[0] == user), key=lambda e: (e[1], e[2]))
        counted = 0
        for n, (_, second, name, item, fate) in enumerate(mine):
            equal = [e for e in mine[:n] if e[3:] == (item, fate) and second - e[1] < RULES.burst_seconds]
            counted += fate == FOLDED
            if len(equal) >= RULES.burst_repeats or counted > RULES.daily_cap:
                found.add(name)
        if any(
            len([e for e in mine[:n] if mine[n][1] - e[1] < 60]) >= RULES.minute_limit
            for n in range(len(mine))
        ):
            found |= {e[2] for e in mine}
    return found & {e[2] for e in events if e[4] == FOLDED}


def marked(spark, events):
    """event_ids of what weighs nothing; events: (user, second, id, item, fate) of one day, where the fate is FOLDED or RETRACT."""
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
    frame = frame.withColumn("log_date", F.col("event_date"))
    missing = {
        c.name: F.lit(None).cast(c.type) for c in behavior_events.TABLE.columns if c.name not in frame.columns
    }
    others = [
        delta.no_rows(spark, table)
        for table in (text_embeddings.TABLE, rejected_texts.TABLE, text_sentiments.TABLE)
    ]
    fates = {
        row["event_id"]: row["fate"]
        for row in mark_events(frame.withColumns(missing), *others, RULES, F.lit(True)).collect()
    }
    assert len(fates) == frame.count()
    return {name for name, fate in fates.items() if fate == ZERO_WEIGHT}


EVENT = st.tuples(
    st.sampled_from("ab"),
    st.integers(0, 200),
    st.sampled_from("xyz"),
    st.sampled_from([FOLDED, FOLDED, RETRACT]),
)


@pytest.mark.parametrize("few", [marks.FEW_DAYS, 0])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(days=st.lists(st.lists(EVENT, min_size=1, max_size=40), min_size=12, max_size=12))
def test_marks_are_what_the_rules_say(spark, few, days):
    # A dozen drawn days at a time, each with users of its own: a Spark job takes longer than a thousand examples.
    events = [
        (f"{user}{d}", second, f"{d}-{n:03d}", item, fate)
        for d, day in enumerate(days)
        for n, (user, second, item, fate) in enumerate(day)
    ]
    with patch.object(marks, "FEW_DAYS", few):
        assert marked(spark, events) == floods(events)


def test_days_without_many_events_are_not_put_in_order(spark):
    events = [("a", n, f"a{n}", "x", FOLDED) for n in range(2)] + [
        ("b", n, f"b{n}", f"{n}", FOLDED) for n in range(8)
    ]
    with patch.object(marks, "mark_floods", side_effect=AssertionError):
        assert marked(spark, events) == set()


def test_a_number_in_one_column_is_not_the_same_deed_as_in_another(spark):
    rows = [("a", START.date(), START + timedelta(seconds=n), f"a{n}", "rating", "x", *numbers)
            for n, numbers in enumerate([(0.5, None), (None, 0.5), (0.5, None), (None, 0.5)])]  # fmt: skip
    frame = spark.createDataFrame(rows, f"{SCHEMA}, rating double, value double").withColumn(
        "text_key", F.col("item_id")
    )
    assert weightless(spark, frame) == set()
