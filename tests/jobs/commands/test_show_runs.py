"""What show_runs prints of a warehouse, without Spark, and what it suggests to do next."""

from datetime import timedelta

import pytest

from jobs import show_runs
from jobs.show_runs import latest_rows, next_step, unfinished_lines
from schemas import pipeline_runs
from tests.builders import row as stored
from tests.builders import store_without_spark
from tests.jobs.run_records import DAY, at, days


def row(job, status, **more):
    return {"run_id": "r", "job": job, "status": status, "date": DAY, "from_date": DAY} | more


@pytest.mark.parametrize(
    ("rows", "suggestion"),
    [
        ([row("run_night", "done"), row("publish_run", "published")], None),
        ([row("run_night", "failed"), row("fold_profiles", "failed")], "run_night of 2025-03-03 failed"),
        (
            [row("ingest_events", "done"), row("fold_profiles", "failed")],
            "fold_profiles of 2025-03-03 failed",
        ),
        ([row("check_tables", "failed")], "rules do not hold for 2025-03-03"),
        ([row("run_night", "started"), row("embed_texts", "started")], "has not ended"),
        ([row("fold_profiles", "failed", run_id="old"), row("run_night", "done")], None),
        ([], None),
    ],
)
def test_the_next_step_follows_from_the_newest_run(rows, suggestion):
    step = next_step(rows)
    assert step is None if suggestion is None else suggestion in step


def test_unfinished_days_are_shown_as_spans_of_one_state():
    states = dict.fromkeys(days(0, 1), "ingested")
    states |= dict.fromkeys(days(2, 4), "published")
    states |= dict.fromkeys(days(5), "ingested")
    states |= dict.fromkeys(days(6, 7), "folded")
    states |= dict.fromkeys(days(9, 10), "folded")
    assert unfinished_lines(states) == [
        "ingested: 2025-03-03..2025-03-04, not published",
        "ingested: 2025-03-08, not published",
        "folded: 2025-03-09..2025-03-10, not published",
        "folded: 2025-03-12..2025-03-13, not published",
    ]
    assert unfinished_lines({}) == unfinished_lines(dict.fromkeys(days(0, 3), "published")) == []


def run_row(job, status, minute, **more):
    ended = None if status == "started" else at(minute) + timedelta(seconds=1.5)
    values = {"run_id": "r", "job": job, "status": status, "date": DAY, "from_date": DAY}
    values |= {"started": at(minute), "ended": ended, "sequence": 2 * minute + (ended is not None)}
    return stored(pipeline_runs.TABLE, **(values | more))


def local(minute):
    return f"{at(minute).astimezone():%Y-%m-%d %H:%M:%S}"


def test_runs_are_printed_in_the_order_of_their_start(tmp_path, capsys):
    rows = [
        run_row("publish_run", "published", 2, output_versions={"items": 3, "behavior_events": 12}),
        run_row("ingest_events", "started", 0),
        run_row("ingest_events", "done", 0, counts={"read": 1234, "late": 0}),
        run_row("fold_profiles", "failed", 1, message="the disk is full", run_id="other"),
        run_row("run_night", "started", 3, run_id="newest", date=DAY + timedelta(days=1)),
    ]
    store_without_spark(str(tmp_path), pipeline_runs.TABLE, rows)
    arguments = ["--warehouse", str(tmp_path)]
    assert show_runs.main(arguments) == 0
    span = "2025-03-03..2025-03-04"
    rerun = f"rerun run_night for {span}: finished work is kept, and nothing needs cleaning up"
    assert capsys.readouterr().out.splitlines() == [
        f"{local(0)}  ingest_events     2025-03-03             done          1.5 s  1,234 read",
        f"{local(1)}  fold_profiles     2025-03-03             failed        1.5 s  the disk is full",
        f"{local(2)}  publish_run       2025-03-03             published     1.5 s  ",
        f"{local(3)}  run_night         2025-03-03..2025-03-04 started   not ended  ",
        "published: 2025-03-03 to 2025-03-03",
        f"next: run_night of {span} has not ended; if it is not running any more, {rerun}",
    ]
    assert show_runs.main([*arguments, "--last", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{local(3)}  run_night ")
    assert show_runs.main([*arguments, "--versions"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["behavior_events          12", "items                     3"]


def test_a_warehouse_without_runs_is_one_sentence(tmp_path, capsys):
    arguments = ["--warehouse", str(tmp_path)]
    assert show_runs.main(arguments) == 1
    assert capsys.readouterr().err == f"show_runs: nothing was ever run on {tmp_path}\n"
    store_without_spark(str(tmp_path), pipeline_runs.TABLE, [run_row("run_night", "failed", 0)])
    assert show_runs.main([*arguments, "--versions"]) == 1
    assert capsys.readouterr().err == f"show_runs: nothing is published in {tmp_path}\n"
    with pytest.raises(SystemExit) as exit_:
        show_runs.main([*arguments, "--last", "0"])
    assert exit_.value.code == 2


def test_of_an_attempt_the_last_status_counts():
    first = {"run_id": "r", "job": "run_night", "attempt": 1}
    second = first | {"attempt": 2, "status": "started", "sequence": 3}
    rows = [
        second,
        first | {"status": "failed", "sequence": 2},
        first | {"status": "started", "sequence": 1},
    ]
    assert [row["status"] for row in latest_rows(rows)] == ["failed", "started"]
