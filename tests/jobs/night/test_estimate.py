"""What a dry run says of the texts to embed, and how long it says that work takes."""

import json

import pytest

from jobs import ingest_events
from jobs.ingest.days import ingest_days
from jobs.io.days import Days
from jobs.io.logs import Logs
from jobs.io.runs import RunLog
from jobs.night.estimate import OVERHEAD_MINUTES, USUAL_SPEED, Work, missing_in_logs, tell_range
from schemas.mapping import parse_mapping
from schemas.settings import Settings
from tests.e2e.tables import rows_of
from tests.jobs.ingest.days import FIRST, SECOND, canonical, deliver, event

# ---- texts

CATALOGUE = {
    "source": {"format": "json", "columns": {"id": "string", "name": "string"}},
    "fields": {"item_id": "id", "title": "name"},
}
# The last record can't be an event; the catalogue has other items than events name, and an unusable row.
DAYS = {
    FIRST: [
        event(event_id="1", item_id="named"),
        event(event_id="2", item_id="reviewed", text="Own words"),
        event(event_id="3", item_id="titled", title="Lamp"),
        event(item_id="titled", title="Bulb"),
        event(event_id="4", item_id="nobody's", text="Lost", user_id=None),
    ],
    SECOND: [
        event(SECOND, event_id="5", item_id="titled"),
        event(SECOND, event_id="6", item_id="unknown"),
    ],
}
NAMES = {"named": "Kettle", "reviewed": "Cup", "nobody's": "Jug", "unusable": None}
MADE = {"review": "concat(item_title, '!')", "view": "concat('a ', item_title)"}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, {"Kettle", "Own words", "Lamp", "Bulb"}),
        pytest.param(MADE, {"a Kettle", "a Cup", "a Lamp", "a Bulb"}, marks=pytest.mark.slow),
    ],
    ids=["of events and items", "made"],
)
def test_a_dry_run_counts_the_texts_that_events_and_items_will_have(
    warehouse_at, run_on, tmp_path, capsys, texts, expected
):
    for day, events in DAYS.items():
        deliver(tmp_path, day, *events)
    folder = tmp_path / "logs" / "items" / f"dt={FIRST}"
    folder.mkdir(parents=True)
    rows = [json.dumps({"id": item, "name": name}) for item, name in NAMES.items()]
    (folder / "items.jsonl").write_text("\n".join(rows), encoding="utf-8")
    settings = Settings.model_validate({"ingest": {"max_bad_share": 1}})
    mapping = parse_mapping(json.dumps(canonical(items=CATALOGUE, texts=texts)), "test")
    logs, span = Logs(str(tmp_path / "logs"), mapping), Days(FIRST, SECOND)
    warehouse = warehouse_at(tmp_path / "w")
    tell_range(RunLog(warehouse), settings, logs, span, [])
    said = capsys.readouterr().out
    told = missing_in_logs(warehouse, settings, logs, span).collect()
    assert {row["text"] for row in told if row["of_event"]} == expected
    alone = sum(not row["of_event"] for row in told)
    assert (
        "7 records" in said and f"embed: {len(told)} texts without a vector, {alone} of items alone" in said
    )
    with run_on(tmp_path / "w", ingest_events.JOB, span) as run:
        ingest_days(run, logs, settings, span)
    stored = [
        (row["text_key"], row["text"])
        for table in ("behavior_events", "items")
        for row in rows_of(str(tmp_path / "w"), table)
    ]
    assert sorted((row["text_key"], row["text"]) for row in told) == sorted({*stored} - {(None, None)})


# ---- time

SPEEDS = {"ingest_events": 100.0, "embed_texts": 10.0, "fold_profiles": 1000.0}


@pytest.mark.parametrize(
    ("work", "minutes"),
    [
        (Work(), 0),
        (Work(records=6_000), 1),
        (Work(texts=600), 1),
        (Work(events=60_000), 1),
        (Work(records=6_000, texts=1_200, events=60_000), 4),
    ],
)
def test_each_kind_of_work_takes_its_own_time(work, minutes):
    assert work.minutes(SPEEDS) == pytest.approx(OVERHEAD_MINUTES + minutes)


def test_every_kind_of_work_has_a_usual_speed():
    assert Work(1, 1, 1).minutes(USUAL_SPEED) > OVERHEAD_MINUTES
