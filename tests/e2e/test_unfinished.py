"""Days that were begun and not finished do not slip out with other days, and what the refusal names can be run; on a copy of four days."""

import json
import re
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from jobs import (
    backfill_profiles,
    check_tables,
    embed_texts,
    ingest_events,
    maintain_tables,
    query_tables,
    run_night,
)
from jobs.io import runs
from jobs.io.history import FAILED
from jobs.io.messages import JobError
from tests.e2e.tables import call, differences, rows_of

# Three days before the history, four that are published, and two after them; the window has two days.
DAYS = [date(2025, 3, 10) + timedelta(days=n) for n in range(9)]
BEFORE, PUBLISHED, NEXT, LATER = DAYS[:3], DAYS[3:7], DAYS[7], DAYS[8]
OLD, NEAR = PUBLISHED[0], PUBLISHED[2]


def event(user: str, day: date, hour: int) -> dict[str, str]:
    what = f"{user} looked at thing {day.day % 4}"
    return {
        "event_id": f"{user}-{day}-{hour}",
        "user_id": user,
        "event_ts": f"{day}T{hour:02}:00:00Z",
        "event_type": "view",
        "text": what,
    }


def deliver(logs: Path, day: date, *events: dict[str, str]) -> None:
    """The day's log: what every user did, and more."""
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
    file.write_text(
        "{engine: {kind: hash, hash_dimensions: 8}, fold: {window_days: 2}, maintenance: {thin_after_days: 2}}",
        encoding="utf-8",
    )
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
    return lambda first, last: call(
        spark, backfill_profiles, copied, config, "--logs", logs, "--start", first, "--end", last
    )


@pytest.fixture
def killed(monkeypatch):
    """Ends a job where it calls a function, and lets it write nothing more."""

    def kill(job, module, name):
        def dies(*args, **more):
            runs.finish_writing(args[1])
            raise KeyboardInterrupt

        write = runs.write_row
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(module, name, dies)
            patched.setattr(runs, "write_row", lambda *a, **k: None if a[3] == FAILED else write(*a, **k))
            job()

    return kill


def begun(warehouse, day):
    return [
        row
        for row in rows_of(warehouse, "pipeline_runs")
        if row["job"] == "ingest_events" and row["date"] == day
    ]


def test_a_killed_backfill_before_the_history_does_not_slip_out_with_the_next_night(
    night, backfill, killed, copied
):
    killed(lambda: backfill(BEFORE[0], BEFORE[-1]), embed_texts, "embed_days")
    shown = query_tables.published_versions(copied)
    whole = f"{BEFORE[0]}..{BEFORE[-1]}", f"backfill_profiles --start {BEFORE[0]} --end {BEFORE[-1]}"
    told = f"the range {whole[0]} was ingested and not finished since; run {whole[1]} first"
    with pytest.raises(JobError, match=told):
        night(NEXT)
    assert query_tables.published_versions(copied) == shown and not begun(copied, NEXT)
    backfill(BEFORE[0], BEFORE[-1])
    night(NEXT)
    assert differences(copied, NEXT) == []


# The old day itself lies before the night's window; the near one inside it, but not what arrives late on it.
@pytest.mark.parametrize(
    ("redelivered", "event_day"), [(OLD, OLD), pytest.param(NEAR, PUBLISHED[1], marks=pytest.mark.slow)]
)
def test_a_killed_delivery_does_not_slip_out_with_another_night(
    spark, night, killed, copied, config, logs, redelivered, event_day
):
    deliver(logs, redelivered, event("bob", event_day, 15))
    killed(lambda: night(redelivered), embed_texts, "embed_days")
    shown = query_tables.published_versions(copied)
    with pytest.raises(
        JobError, match=f"{redelivered} was ingested and not finished since; run that day first"
    ):
        night(NEXT)
    assert query_tables.published_versions(copied) == shown and not begun(copied, NEXT)
    # As a scheduler runs it, and upkeep that would take away what its fold restarts from.
    with pytest.raises(
        JobError, match=f"{redelivered} was ingested and not finished since; run that day first"
    ):
        call(spark, ingest_events, copied, config, "--logs", logs, "--date", NEXT)
    if redelivered == OLD:
        with pytest.raises(JobError, match=f"{OLD} was ingested and not finished since; run that day first"):
            call(spark, maintain_tables, copied, config, "--date", PUBLISHED[-1])
    night(redelivered)
    night(NEXT)
    assert differences(copied, NEXT) == []


@pytest.mark.slow
def test_a_rebuild_shows_no_unfinished_day_and_leaves_it_runnable(
    spark, night, killed, copied, config, logs, tmp_path
):
    deliver(logs, OLD, event("bob", OLD, 15))
    killed(lambda: night(OLD), embed_texts, "embed_days")
    other = tmp_path / "other.yaml"
    facets = "window_days: 2, facets: [{name: nobody, where: 'FALSE'}]"
    other.write_text(
        Path(config).read_text(encoding="utf-8").replace("window_days: 2", facets), encoding="utf-8"
    )
    shown = query_tables.published_versions(copied)
    with pytest.raises(JobError, match=f"{OLD} was ingested and not finished since; run that day first"):
        call(spark, backfill_profiles, copied, str(other), "--rebuild")
    assert query_tables.published_versions(copied) == shown
    call(spark, run_night, copied, str(other), "--logs", logs, "--date", OLD)
    call(spark, backfill_profiles, copied, str(other), "--rebuild")
    assert differences(copied, PUBLISHED[-1]) == []


@pytest.mark.slow
def test_an_ingest_that_was_killed_with_nothing_written_is_settled_by_a_run_with_nothing_new(
    night, killed, copied
):
    killed(lambda: night(OLD), ingest_events, "known_events")
    with pytest.raises(JobError, match=f"{OLD} was ingested and not finished since"):
        night(NEXT)
    night(OLD)
    night(NEXT)
    assert query_tables.published_versions(copied)


def test_a_delivery_that_can_t_be_read_keeps_no_night_from_its_readers(night, copied, logs):
    (logs / f"dt={OLD}" / "events.jsonl.gz").write_bytes(b"\x1f\x8b torn")
    with pytest.raises(JobError):
        night(OLD)
    night(NEXT)
    assert differences(copied, NEXT) == []


def test_an_ingest_that_failed_on_its_way_does_not_slip_out(night, monkeypatch, copied, logs):
    def fails(*args):
        raise JobError("the storage is full")

    deliver(logs, OLD, event("bob", OLD, 15) | {"item_id": "S1", "title": "a thing"})
    with monkeypatch.context() as patched, pytest.raises(JobError, match="storage is full"):
        patched.setattr(ingest_events, "name_key", fails)
        night(OLD)
    failed = next(row for row in begun(copied, OLD) if row["status"] == "failed")
    assert "items" in dict(failed["output_versions"])
    with pytest.raises(JobError, match=f"{OLD} was ingested and not finished since"):
        night(NEXT)


def way(error: pytest.ExceptionInfo[JobError]) -> list[date]:
    """The range that a refusal says to run."""
    named = re.search(r"backfill_profiles --start (\S+) --end (\S+?)[ ,]", str(error.value))
    assert named, error.value
    return [date.fromisoformat(day) for day in named.groups()]


def test_a_range_that_was_folded_and_not_published_is_named_whole(night, backfill, killed, copied):
    killed(lambda: backfill(NEXT, LATER), check_tables, "check_days")
    with pytest.raises(
        JobError, match=f"{NEXT} is not published; run that day first \\(or backfill from it\\)"
    ):
        night(LATER)
    with pytest.raises(
        JobError, match=f"the range {NEXT}..{LATER} was folded and is not published"
    ) as refused:
        night(NEXT)
    assert way(refused) == [NEXT, LATER]
    backfill(*way(refused))
    assert differences(copied, LATER) == []


@pytest.mark.slow
@pytest.mark.parametrize("filled", [False, True])
def test_a_night_that_took_an_empty_day_along_is_named_with_it(night, backfill, killed, copied, logs, filled):
    close_empty(logs, NEXT)
    killed(lambda: night(LATER), check_tables, "check_days")
    if filled:
        deliver(logs, NEXT)
    with pytest.raises(
        JobError, match=f"the range {NEXT}..{LATER} was folded and is not published"
    ) as refused:
        night(NEXT)
    if filled:
        backfill(*way(refused))
    else:
        night(LATER)
    assert differences(copied, LATER) == []
