"""Unfinished days are never published along with others, and the command that a refusal names finishes them.

Each test works on a copy of a warehouse with four published days.
"""

import json
import re
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from jobs import backfill_profiles, ingest_events, maintain_tables, run_night
from jobs.io.days import Days
from jobs.io.messages import JobError
from jobs.io.reading import published_versions
from jobs.io.runs import RunLog
from jobs.io.warehouse import Warehouse
from jobs.night.guards import refuse_unfinished
from tests.e2e.tables import call, differences, rows_of

# Three days before the history, four published days, and two after them; the window has two days.
DAYS = [date(2025, 3, 10) + timedelta(days=n) for n in range(9)]
BEFORE, PUBLISHED, NEXT, LATER = DAYS[:3], DAYS[3:7], DAYS[7], DAYS[8]
OLD, NEAR = PUBLISHED[0], PUBLISHED[2]
FINISH_OLD = f"{OLD} was ingested and not finished since; run that day first"


def event(user: str, day: date, hour: int) -> dict[str, str]:
    return {
        "event_id": f"{user}-{day}-{hour}",
        "user_id": user,
        "event_ts": f"{day}T{hour:02}:00:00Z",
        "event_type": "view",
        "text": f"{user} looked at thing {day.day % 4}",
    }


def deliver(logs: Path, day: date, *events: dict[str, str]) -> None:
    """Writes the day's log: an event of every user, and these events."""
    folder = logs / f"dt={day}"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(e) + "\n" for e in (*(event(user, day, 9) for user in ("ann", "bob")), *events)]
    (folder / "events.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "_SUCCESS").touch()


def close_empty(logs: Path, day: date) -> None:
    shutil.rmtree(logs / f"dt={day}")
    (logs / f"dt={day}").mkdir()
    (logs / f"dt={day}" / "_SUCCESS").touch()


@pytest.fixture
def logs(tmp_path):
    for day in DAYS:
        deliver(tmp_path / "logs", day)
    return tmp_path / "logs"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "small.yaml"
    engine, rest = "kind: hash, hash_dimensions: 8", "maintenance: {thin_after_days: 2}"
    file.write_text(f"{{engine: {{{engine}}}, fold: {{window_days: 2}}, {rest}}}", encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def four_days(spark, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    for day in PUBLISHED:
        deliver(folder / "logs", day)
    span = ("--start", PUBLISHED[0], "--end", PUBLISHED[-1])
    call(spark, backfill_profiles, folder / "w", config, "--logs", folder / "logs", *span)
    return folder / "w"


@pytest.fixture
def copied(four_days, tmp_path):
    return str(shutil.copytree(four_days, tmp_path / "w"))


@pytest.fixture
def night(spark, copied, config, logs):
    return lambda day: call(spark, run_night, copied, config, "--logs", logs, "--date", day)


@pytest.fixture
def backfill(spark, copied, config, logs):
    def run(first, last):
        span = ("--start", first, "--end", last)
        call(spark, backfill_profiles, copied, config, "--logs", logs, *span)

    return run


@pytest.fixture
def killed(monkeypatch):
    """Runs a job that dies where it calls a function, as if killed: the run log gets no row after that.

    function: its full name where the job looks it up.
    """

    def kill(job, function):
        write, used, is_dead = RunLog.write, [], False

        def write_until_death(log, *args, **more):
            used.append(log)
            if not is_dead:
                write(log, *args, **more)

        def dies(*args, **more):
            nonlocal is_dead
            is_dead = True
            # The row of the start is written in parallel; here the kill comes after it.
            used[-1].flush()
            raise KeyboardInterrupt

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(function, dies)
            patched.setattr(RunLog, "write", write_until_death)
            job()

    return kill


def ingests(warehouse, day):
    """The run records of the day's ingests."""
    rows = rows_of(warehouse, "pipeline_runs")
    return [row for row in rows if row["job"] == "ingest_events" and row["date"] == day]


def named_range(refused: pytest.ExceptionInfo[JobError]) -> list[date]:
    """The range that a refusal says to run."""
    named = re.search(r"backfill_profiles --start (\S+) --end (\S+?)[ ,]", str(refused.value))
    assert named, refused.value
    return [date.fromisoformat(day) for day in named.groups()]


# The fast suite proves it by test_guards.py (a chunk of a backfill) and by the killed redelivery below.
@pytest.mark.slow
def test_a_killed_backfill_before_the_history_is_not_published_with_the_next_night(
    night, backfill, killed, copied
):
    killed(lambda: backfill(BEFORE[0], BEFORE[-1]), "jobs.night.steps.embed_days")
    shown = published_versions(copied)
    days = f"{BEFORE[0]}..{BEFORE[-1]}"
    command = f"backfill_profiles --start {BEFORE[0]} --end {BEFORE[-1]}"
    message = f"the range {days} was ingested and not finished since; run {command} first"
    with pytest.raises(JobError, match=message):
        night(NEXT)
    assert published_versions(copied) == shown
    assert not ingests(copied, NEXT)
    backfill(BEFORE[0], BEFORE[-1])
    night(NEXT)
    assert differences(copied, NEXT) == []


# The old day lies before the night's window. The near one lies inside it, but its late event does not.
@pytest.mark.slow
@pytest.mark.parametrize(("redelivered", "event_day"), [(OLD, OLD), (NEAR, PUBLISHED[1])])
def test_a_killed_redelivery_is_not_published_with_another_night(
    spark, night, killed, copied, config, logs, redelivered, event_day
):
    deliver(logs, redelivered, event("bob", event_day, 15))
    killed(lambda: night(redelivered), "jobs.night.steps.embed_days")
    shown = published_versions(copied)
    message = f"{redelivered} was ingested and not finished since; run that day first"
    with pytest.raises(JobError, match=message):
        night(NEXT)
    assert published_versions(copied) == shown
    assert not ingests(copied, NEXT)
    # So does the scheduler's first task; and maintenance would remove the states its fold restarts from.
    with pytest.raises(JobError, match=message):
        call(spark, ingest_events, copied, config, "--logs", logs, "--date", NEXT)
    if redelivered == OLD:
        with pytest.raises(JobError, match=message):
            call(spark, maintain_tables, copied, config, "--date", PUBLISHED[-1])
    night(redelivered)
    night(NEXT)
    assert differences(copied, NEXT) == []


@pytest.mark.slow
def test_a_rebuild_publishes_no_unfinished_day_and_leaves_it_runnable(
    spark, night, killed, copied, config, logs, tmp_path
):
    deliver(logs, OLD, event("bob", OLD, 15))
    killed(lambda: night(OLD), "jobs.night.steps.embed_days")
    other = tmp_path / "other.yaml"
    facets = "window_days: 2, facets: [{name: nobody, where: 'FALSE'}]"
    changed = Path(config).read_text(encoding="utf-8").replace("window_days: 2", facets)
    other.write_text(changed, encoding="utf-8")
    shown = published_versions(copied)
    with pytest.raises(JobError, match=FINISH_OLD):
        call(spark, backfill_profiles, copied, str(other), "--rebuild")
    assert published_versions(copied) == shown
    call(spark, run_night, copied, str(other), "--logs", logs, "--date", OLD)
    call(spark, backfill_profiles, copied, str(other), "--rebuild")
    assert differences(copied, PUBLISHED[-1]) == []


@pytest.mark.slow
def test_an_ingest_killed_before_any_write_is_settled_by_a_run_with_nothing_new(night, killed, copied):
    killed(lambda: night(OLD), "jobs.ingest.days.known_events")
    with pytest.raises(JobError, match=f"{OLD} was ingested and not finished since"):
        night(NEXT)
    night(OLD)
    night(NEXT)
    assert published_versions(copied)


def make_unreadable(logs: Path, day: date) -> Path:
    file = logs / f"dt={day}" / "events.jsonl.gz"
    file.write_bytes(b"\x1f\x8b torn")
    return file


# The fast suite proves it by the next test.
@pytest.mark.slow
def test_an_unreadable_delivery_holds_up_no_other_night(night, copied, logs):
    make_unreadable(logs, OLD)
    with pytest.raises(JobError):
        night(OLD)
    night(NEXT)
    assert differences(copied, NEXT) == []


def test_an_ingest_that_failed_is_unfinished_from_its_first_write_on(spark, night, monkeypatch, copied, logs):
    def fails(*args):
        raise JobError("the storage is full")

    unreadable = make_unreadable(logs, OLD)
    with pytest.raises(JobError):
        night(OLD)
    (failed,) = (row for row in ingests(copied, OLD) if row["status"] == "failed")
    assert not dict(failed["output_versions"])
    refuse_unfinished(RunLog(Warehouse(spark, copied)).records(), Days.only(NEXT))
    unreadable.unlink()
    deliver(logs, OLD, event("bob", OLD, 15) | {"item_id": "S1", "title": "a thing"})
    with monkeypatch.context() as patched, pytest.raises(JobError, match="storage is full"):
        patched.setattr("jobs.ingest.days.name_form", fails)
        night(OLD)
    failed = [row for row in ingests(copied, OLD) if row["status"] == "failed"]
    assert "items" in dict(max(failed, key=lambda row: row["ended"])["output_versions"])
    with pytest.raises(JobError, match=f"{OLD} was ingested and not finished since"):
        night(NEXT)


# The fast suite has test_guards.py for the range that is named, and test_history.py for a killed one rerun.
@pytest.mark.slow
def test_a_folded_and_unpublished_range_is_named_completely(night, backfill, killed, copied):
    killed(lambda: backfill(NEXT, LATER), "jobs.night.steps.check_days")
    message = f"{NEXT} is not published; run that day first \\(or backfill from it\\)"
    with pytest.raises(JobError, match=message):
        night(LATER)
    message = f"the range {NEXT}..{LATER} was folded and is not published"
    with pytest.raises(JobError, match=message) as refused:
        night(NEXT)
    assert named_range(refused) == [NEXT, LATER]
    backfill(*named_range(refused))
    assert differences(copied, LATER) == []


@pytest.mark.slow
@pytest.mark.parametrize("filled", [False, True])
def test_a_night_that_included_an_empty_day_is_named_with_it(night, backfill, killed, copied, logs, filled):
    close_empty(logs, NEXT)
    killed(lambda: night(LATER), "jobs.night.steps.check_days")
    if filled:
        deliver(logs, NEXT)
    message = f"the range {NEXT}..{LATER} was folded and is not published"
    with pytest.raises(JobError, match=message) as refused:
        night(NEXT)
    if filled:
        backfill(*named_range(refused))
    else:
        night(LATER)
    assert differences(copied, LATER) == []
