"""What an ingest leaves in the tables from day to day: refused days, reruns, and days read together."""

import gzip
import json

import pytest

from jobs import ingest_events, query_tables
from jobs.ingest.days import ingest_days
from jobs.io.days import Days
from jobs.io.logs import Logs
from jobs.io.messages import JobError
from jobs.io.warehouse import Writer
from schemas.mapping import parse_mapping
from schemas.settings import Settings
from tests.e2e.tables import rows_of, version_of
from tests.jobs.ingest.days import CATALOGUE, FIRST, SECOND, by_days, canonical, catalogue, deliver, event


def test_a_day_that_is_mostly_unusable_is_refused(ingest, tmp_path, capsys):
    warehouse = str(tmp_path / "w")
    before = {row["event_id"] for row in ingest(FIRST, event(event_id="1"))}
    tables = ("behavior_events", "items", "quarantined_events")
    versions = {name: version_of(warehouse, name) for name in tables}
    reasons = r"2 of 3 records .* can't be used \(1 \w+, 1 \w+\), .*only quarantined_events was written"
    with pytest.raises(JobError, match=reasons):
        ingest(SECOND, event(SECOND, event_id="2"), event(SECOND, user_id=None), event(SECOND, event_ts=None))
    assert {row["event_id"] for row in rows_of(warehouse, "behavior_events")} == before
    quarantined = {row["reason"] for row in rows_of(warehouse, "quarantined_events")}
    assert quarantined == {"missing_user", "bad_time"}
    after = {name: version_of(warehouse, name) for name in versions}
    assert after == versions | {"quarantined_events": after["quarantined_events"]}
    # Nothing is published, and the refused records can be looked at all the same.
    query = ["--warehouse", warehouse, "SELECT reason FROM quarantined_events"]
    assert query_tables.main(query) == 1 and query_tables.main(["--newest", *query]) == 0
    assert "missing_user" in capsys.readouterr().out


@pytest.mark.slow
def test_equal_events_stay_and_withdrawn_ones_are_reported_whichever_day_is_rerun(ingest, capsys):
    kept, moved = event(event_id="kept", text="a"), event(event_id="moved", text="b")
    equal = event(user_id="berta", text="a")

    def rerun(day, *events):
        """What is stored of each user."""
        rows = ingest(day, *events)
        return [by_days([r for r in rows if r["user_id"] == user]) for user in ("anneliese", "berta")]

    rerun(FIRST, kept, moved, equal)
    once_a_day = [(FIRST, "a"), (SECOND, "a")]
    assert rerun(SECOND, moved, equal, equal) == [[(FIRST, "a"), (FIRST, "b")], once_a_day]
    assert "gone or changed" not in capsys.readouterr().out
    assert rerun(FIRST, kept, equal) == [[(FIRST, "a")], once_a_day]
    warning = (
        "1 events that 2025-04-01..2025-04-01 held before are gone or changed; the days up to 2025-04-02 may"
    )
    assert warning in capsys.readouterr().out
    assert rerun(SECOND, moved, equal, equal) == [[(FIRST, "a"), (SECOND, "b")], once_a_day]
    rerun(FIRST, kept, equal)
    assert "gone or changed" not in capsys.readouterr().out


def test_an_ingest_killed_before_its_events_has_warned_of_later_texts(ingest, monkeypatch, capsys):
    def dies(writer, table, rows, predicate, real=Writer.replace):
        if table.name == "behavior_events":
            raise KeyboardInterrupt
        real(writer, table, rows, predicate)

    ingest(SECOND, event(SECOND, event_id="2"))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Writer, "replace", dies)
        ingest(FIRST, event(event_id="1", title="Kettle"))
    # A rerun finds the items changed already.
    assert "1 events of later days would have another text" in capsys.readouterr().out


@pytest.mark.parametrize(
    "texts",
    [{}, pytest.param({"default": "concat(item_title, ': ', text)"}, marks=pytest.mark.slow)],
    ids=["own texts", "made texts"],
)
def test_nights_and_days_read_together_decide_alike(run_on, tmp_path, texts):
    mapping = parse_mapping(json.dumps(canonical(texts=texts, items=CATALOGUE)), "test")
    catalogue(tmp_path, FIRST, gzip.compress(b'{"id": "S3", "name": "Plate"}'))
    boots = {"event_id": "Y", "item_id": "S2"}
    days = {
        FIRST: [
            event(event_id="X", title="Shoes"),
            event(title="Boots", **boots),
            event(event_id="Z", text="good"),
            event(event_id="V", text="one"),
            event(event_id="V", text="two"),
            # A text that only a catalogue gives contradicts none.
            event(event_id="W", item_id="S3"),
        ],
        SECOND: [
            event(event_id="X", text="Shoes"),
            event(text="Hats", **boots),
            event(event_id="Z", text="terrible"),
            event(event_id="W", item_id="S3", text="a plate"),
        ],
    }
    for day, events in days.items():
        deliver(tmp_path, day, *events)
    logs = Logs(str(tmp_path / "logs"), mapping)
    settings = Settings.model_validate({"ingest": {"max_bad_share": 1}})
    found = []
    for spans in ([Days.only(FIRST), Days.only(SECOND)], [Days(FIRST, SECOND)]):
        warehouse = str(tmp_path / f"w{len(spans)}")
        for span in spans:
            with run_on(warehouse, ingest_events.JOB, span) as run:
                ingest_days(run, logs, settings, span)
        rejected = [
            (row["log_date"], row["reason"], json.loads(row["raw"])["event_id"])
            for row in rows_of(warehouse, "quarantined_events")
        ]
        found.append((by_days(rows_of(warehouse, "behavior_events")), sorted(rejected)))
    assert found[0] == found[1]
    across = [(SECOND, "conflicting_id", "Y"), (SECOND, "conflicting_id", "Z")]
    assert found[0][1] == [(FIRST, "conflicting_id", "V"), *across]
