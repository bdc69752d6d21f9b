"""Texts that a mapping makes of an event and its item."""

import pytest

from jobs.io.messages import JobError
from tests.e2e.tables import rows_of
from tests.jobs.ingest.days import FIRST, SECOND, THIRD, by_days, canonical, counts_of_newest, event


def test_texts_are_made_of_event_and_item_by_type(ingest, tmp_path):
    mapping = canonical(
        texts={
            "review": "concat(item_title, ':\n', text)",
            "default": "if(place = 'home', concat('at home, ', item_text), NULL)",
        }
    )
    review = event(event_id="1", event_type="review", text="cafe\u0301 was  fine", title="Kettle")
    events = ingest(FIRST, review, event(event_id="2", place="home"), event(event_id="3"), mapping=mapping)
    texts = {row["event_id"]: row["text"] for row in events}
    assert texts == {"1": "Kettle: café was fine", "2": "at home, Kettle", "3": "Kettle"}
    # Delivered again on another day, an event whose text was made of several fields is no conflict; one with
    # another own text is.
    other = review | {"text": "it was awful"}
    again = ingest(SECOND, review, other, event(SECOND, event_id="4"), mapping=mapping)
    assert {row["event_id"] for row in again} == {"1", "2", "3", "4"}
    (rejected,) = rows_of(str(tmp_path / "w"), "quarantined_events")
    assert rejected["reason"] == "conflicting_id" and "awful" in rejected["raw"]
    unfitting = mapping | {"texts": {"default": "no_such_column"}}
    with pytest.raises(JobError, match="the mapping's texts do not fit"):
        ingest(THIRD, event(THIRD, event_id="5"), event(THIRD, user_id=None), mapping=unfitting)
    assert len(rows_of(str(tmp_path / "w"), "quarantined_events")) == 1


@pytest.mark.slow
def test_every_event_of_a_renamed_item_counts_as_stale_where_a_mapping_makes_texts(ingest, tmp_path):
    mapping = canonical(texts={"review": "concat(item_title, ': ', text)"})
    later = (
        event(SECOND, event_id="2", event_type="review", text="fine"),
        event(SECOND, event_id="3", item_id="S2", text="own"),
    )
    ingest(SECOND, *later, mapping=mapping)
    ingest(FIRST, event(event_id="1", title="Kettle"), mapping=mapping)
    assert counts_of_newest(str(tmp_path / "w"))["stale_texts"] == 1
    assert (SECOND, "Kettle: fine") in by_days(ingest(SECOND, *later, mapping=mapping))


def test_texts_are_made_of_an_events_own_title_and_for_others_of_the_items_name(ingest):
    mapping = canonical(texts={"review": "concat(item_title, ' ', item_attributes['kind'], ': ', text)"})

    def review(user, **fields):
        return event(user_id=user, event_id=f"{user} {fields}", event_type="review", text="fine", **fields)

    good, bad = {"attributes": {"kind": "good"}}, {"attributes": {"kind": "bad"}}
    events = ingest(
        FIRST,
        *(review(user, title="Kettle", **good) for user in ("berta", "carl")),
        review("dora"),
        review("eve", title="Bad", **bad),
        mapping=mapping,
    )
    texts = {row["user_id"]: row["text"] for row in events}
    assert texts == dict.fromkeys(("berta", "carl", "dora"), "Kettle good: fine") | {"eve": "Bad bad: fine"}
