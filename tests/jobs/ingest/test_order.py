"""Days ingested in any order: what differs from nights in order is told, and following that repairs it."""

import json
import random
import re
from datetime import date, timedelta

import pytest

from jobs.ingest.days import JOB, ingest_days
from jobs.io.days import Days
from jobs.io.logs import Logs
from jobs.io.runs import RunLog, RunSpec, recorded
from schemas.mapping import parse_mapping
from schemas.settings import Settings
from tests.jobs.ingest.days import FIRST, FOURTH, SECOND, THIRD, canonical, deliver, event, stored_in

WINDOW = 1
DAYS = [FIRST + timedelta(days=n) for n in range(4)]
TOGETHER = re.compile(r"--start (\S+) --end ([-\d]+)")
AGAIN = re.compile(r"name their items differently: ingest (\S+)\.\.(\S+) again, in order")
GONE = re.compile(r"events that \S+\.\.(\S+) held before .* the days up to (\S+) may")


@pytest.fixture
def ingest_span(warehouse_at, tmp_path):
    """Ingests a span of the delivered days into a warehouse, as a job does; returns its counts."""

    def run(folder, span, window=WINDOW):
        logs = Logs(str(tmp_path / "logs"), parse_mapping(json.dumps(canonical()), "test"))
        settings = Settings.model_validate({"fold": {"window_days": window}, "ingest": {"max_bad_share": 1}})
        log = RunLog(warehouse_at(tmp_path / folder))
        with recorded(log, RunSpec(JOB, f"{span}", span, "c")) as record:
            ingest_days(record, logs, settings, span)
        return record.counts

    return run


def test_records_that_a_later_day_holds_are_counted_and_reading_both_together_repairs_them(
    ingest_span, tmp_path, capsys
):
    again = [event(event_id="1", text="a"), event(user_id="berta"), event(user_id="berta")]
    changed = event(event_id="2", text="b")
    days = {
        FIRST: [*again, changed, event(event_id="3", text="c"), event(user_id="berta", place="home")],
        SECOND: [event(SECOND, event_id="4", text="d")],
        # A file of the first day once more, and one of its events with other content.
        THIRD: [*again, changed | {"text": "x"}, event(THIRD, event_id="5", text="e")],
        FOURTH: [event(event_id="3", text="c")],
    }
    for day, events in days.items():
        deliver(tmp_path, day, *events)
    for span in Days(FIRST, FOURTH).chunks(1):
        assert ingest_span("in order", span, 7)["held_later"] == 0
    for day in (THIRD, FOURTH, SECOND):
        assert ingest_span("w", Days.only(day), 7)["held_later"] == 0
    capsys.readouterr()
    assert ingest_span("w", Days.only(FIRST), 7)["held_later"] == 5
    told = "5 records of 2025-04-01..2025-04-01 are stored under later days"
    said = capsys.readouterr().out
    assert told in said and "--start 2025-04-01 --end 2025-04-04" in said and "left" not in said
    assert stored_in(str(tmp_path / "w")) != stored_in(str(tmp_path / "in order"))
    assert ingest_span("w", Days(FIRST, FOURTH), 7)["held_later"] == 0
    assert stored_in(str(tmp_path / "w")) == stored_in(str(tmp_path / "in order"))
    assert "stored under later days" not in capsys.readouterr().out


# ---- any order


def drawn_log(rng: random.Random) -> dict[date, list[dict]]:
    """Titled and untitled events, with and without ids, of which later days deliver some again."""
    days: dict[date, list[dict]] = {day: [] for day in DAYS}
    for number in range(60):
        day = rng.choice(DAYS)
        record = event(day, user_id=f"u{rng.randrange(4)}", item_id=f"i{rng.randrange(3)}")
        if rng.random() < 0.7:
            record["event_id"] = f"e{number}"
        if rng.random() < 0.5:
            record["title"] = rng.choice(["Kettle", "Pan"])
        else:
            record["text"] = f"own words {rng.randrange(4)}"
        if rng.random() < 0.2:
            record = {key: value for key, value in record.items() if key not in ("title", "text")}
        days[day].append(record)
        again = day + timedelta(days=1)
        if rng.random() < 0.25 and again in DAYS:
            days[again].append(record)
    return days


def advice(said: str) -> list[Days]:
    """What to ingest next by the messages of an ingest, in order: days to be read together, then nights."""
    spans = [Days(*map(date.fromisoformat, found.groups())) for found in TOGETHER.finditer(said)]
    again = [Days(*map(date.fromisoformat, found.groups())) for found in AGAIN.finditer(said)]
    for found in GONE.finditer(said):
        until, newest = map(date.fromisoformat, found.groups())
        again.append(Days(until + timedelta(days=1), newest))
    return spans + sorted({night for span in again for night in span.chunks(1)}, key=str)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_following_what_ingests_say_gives_what_nights_in_order_give(ingest_span, tmp_path, capsys, seed):
    rng = random.Random(seed)
    for day, events in drawn_log(rng).items():
        deliver(tmp_path, day, *events)
    for day in DAYS:
        ingest_span("in order", Days.only(day))
    todo = [Days.only(day) for day in rng.sample(DAYS, len(DAYS))]
    if seed % 2:
        # A range before days that exist.
        todo = [Days(DAYS[2], DAYS[3]), Days(DAYS[0], DAYS[1])]
    capsys.readouterr()
    for _ in range(30):
        if not todo:
            break
        ingest_span("w", todo.pop(0))
        todo += advice(capsys.readouterr().out)
    assert not todo
    assert stored_in(str(tmp_path / "w")) == stored_in(str(tmp_path / "in order"))
