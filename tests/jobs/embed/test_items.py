"""Texts of items have vectors too, whether an event has them or not."""

from datetime import date

import pytest

from jobs.embed.days import JOB, embed_days
from jobs.io.days import Days
from schemas import behavior_events, items
from schemas.settings import EngineSettings
from tests.builders import row, store
from tests.e2e.tables import rows_of

DAY, LATER = date(2025, 3, 3), date(2025, 3, 4)


@pytest.fixture
def filled(spark, warehouse):
    """Two events of one item; that item, one without events that changes later, and one without a text."""
    events = [
        row(behavior_events.TABLE, event_id=text, log_date=DAY, text=text, text_key=text.lower())
        for text in ("own", "Kettle")
    ]
    store(spark, warehouse, behavior_events.TABLE, events)
    named = [("S1", "Kettle", DAY), ("S2", "Cup", DAY), ("S2", "Mug", LATER), ("S3", None, DAY)]
    versions = [
        row(items.TABLE, item_id=i, text=t, text_key=t and t.lower(), valid_from=day) for i, t, day in named
    ]
    store(spark, warehouse, items.TABLE, versions)
    return warehouse


def embedded(run_on, warehouse, day=DAY, **settings):
    """The counts of an embed of the day, and all keys with a vector."""
    with run_on(warehouse, JOB, Days.only(day)) as run:
        embed_days(run, EngineSettings(kind="hash", **settings), Days.only(day))
    return run.counts, {vector["text_key"] for vector in rows_of(warehouse, "text_embeddings")}


def test_items_known_by_the_day_are_embedded_and_counted_apart(filled, run_on):
    counts, keys = embedded(run_on, filled)
    assert counts == {"texts": 2, "reused": 0, "embedded": 3, "rejected": 0, "item_texts": 1}
    assert keys == {"own", "kettle", "cup"}
    counts, _ = embedded(run_on, filled)
    assert counts == {"texts": 2, "reused": 2, "embedded": 0, "rejected": 0, "item_texts": 0}
    counts, keys = embedded(run_on, filled, LATER)
    assert counts == {"texts": 0, "reused": 0, "embedded": 1, "rejected": 0, "item_texts": 1}
    assert keys == {"own", "kettle", "cup", "mug"}


def test_without_the_setting_events_alone_are_embedded(filled, run_on):
    counts, keys = embedded(run_on, filled, embed_items=False)
    assert (counts["embedded"], counts["item_texts"], keys) == (2, 0, {"own", "kettle"})
