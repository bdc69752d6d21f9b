"""What no person does weighs nothing: bursts, days beyond the cap, impossible minutes; against a plain count of the same rules."""

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.event_marks import FOLDED, mark_floods
from schemas.settings import FoldSettings

RULES = FoldSettings(daily_cap=12, burst_repeats=2, burst_seconds=10, minute_limit=8)
START = datetime(2025, 4, 1, tzinfo=UTC)
SCHEMA = (
    "user_id string, event_date date, event_ts timestamp, event_id string, event_type string, item_id string, text_key string, "
    "rating double, value double, fate string"
)


def floods(events):
    """event_ids that weigh nothing, by the rules' words; events: (user, second, id, item, fate) of one day."""
    found = set()
    for user in {event[0] for event in events}:
        mine = sorted((e for e in events if e[0] == user), key=lambda e: (e[1], e[2]))
        counted = 0
        for n, (_, second, name, item, fate) in enumerate(mine):
            equal = [e for e in mine[:n] if e[3] == item and second - e[1] < RULES.burst_seconds]
            counted += fate == FOLDED
            if len(equal) >= RULES.burst_repeats or counted > RULES.daily_cap:
                found.add(name)
        if any(len([e for e in mine[:n] if mine[n][1] - e[1] < 60]) >= RULES.minute_limit for n in range(len(mine))):
            found |= {e[2] for e in mine}
    return found


EVENT = st.tuples(st.sampled_from("ab"), st.integers(0, 200), st.sampled_from("xyz"), st.sampled_from([FOLDED, FOLDED, "retract"]))


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(EVENT, min_size=5, max_size=40), min_size=12, max_size=12))
def test_marks_are_what_the_rules_say(spark, days):
    # A dozen drawn days at a time, each with users of its own: a Spark job takes longer than a thousand examples.
    events = [
        (f"{user}{d}", second, f"{d}-{n:03d}", item, fate) for d, day in enumerate(days) for n, (user, second, item, fate) in enumerate(day)
    ]
    rows = [
        (user, START.date(), START + timedelta(seconds=second), name, "view", item, item, None, None, fate)
        for user, second, name, item, fate in events
    ]
    marked = mark_floods(spark.createDataFrame(rows, SCHEMA), RULES).where("is_flood").collect()
    assert {row["event_id"] for row in marked} == floods(events)
