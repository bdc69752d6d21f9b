"""What jobs write to pipeline_runs, when they start and however they end, and what commits carry of it."""

import hashlib
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from jobs.io.days import Days
from jobs.io.lease import take_folder
from jobs.io.messages import JobError
from jobs.io.runs import RunLog, RunSpec, recorded, step
from schemas import pipeline_runs, rejected_texts
from tests.builders import frame, row
from tests.e2e.tables import rows_of, version_of

DAYS = Days(date(2025, 3, 3), date(2025, 3, 4))
SPEC = RunSpec("run_night", "r", DAYS, "c")
TABLE = rejected_texts.TABLE


@pytest.fixture
def log(warehouse_at, warehouse):
    return RunLog(warehouse_at(warehouse))


def told(warehouse):
    """(job, attempt, status) of the stored records in their order."""
    rows = sorted(rows_of(warehouse, "pipeline_runs"), key=lambda r: r["sequence"])
    assert [r["sequence"] for r in rows] == [*range(1, len(rows) + 1)]
    return [(r["job"], r["attempt"], r["status"]) for r in rows]


def write(run, key):
    run.writer.append(TABLE, frame(run.spark, TABLE, [row(TABLE, text_key=key)]))


def test_a_job_records_its_start_and_its_end_with_the_tables_it_changed(log, warehouse, capsys):
    with recorded(log, SPEC) as run:
        with run.phase("write"):
            write(run, "a")
        run.add_counts({"states": 1})
        run.add_counts({"states": 2, "texts": 0})
    assert told(warehouse) == [("run_night", 1, "started"), ("run_night", 1, "done")]
    done = next(r for r in rows_of(warehouse, "pipeline_runs") if r["status"] == "done")
    assert (done["from_date"], done["date"]) == (DAYS.first, DAYS.last)
    assert dict(done["counts"]) == {"states": 3, "texts": 0} and dict(done["seconds"]).keys() == {
        "write",
        "sync",
    }
    assert dict(done["output_versions"]) == {TABLE.name: 1} and not dict(done["input_versions"])
    assert "run_night 2025-03-03..2025-03-04: 3 states (" in capsys.readouterr().out
    # Its commits carry its name.
    note = log.warehouse.note(TABLE)
    assert (note["job"], note["run_id"], note["date"]) == ("run_night", "r", "2025-03-04")


def test_a_failure_is_recorded_in_one_sentence_with_what_was_written(log, warehouse):
    with pytest.raises(JobError), recorded(log, SPEC) as run:
        write(run, "a")
        raise JobError("the storage is full")
    failed = next(r for r in rows_of(warehouse, "pipeline_runs") if r["status"] == "failed")
    assert failed["message"] == "the storage is full" and dict(failed["output_versions"]) == {TABLE.name: 1}
    with recorded(log, SPEC):
        pass
    assert told(warehouse)[-2:] == [("run_night", 2, "started"), ("run_night", 2, "done")]


def test_a_job_whose_outcome_can_t_be_told_stays_started(log, warehouse, monkeypatch, capsys):
    def unreachable(run):
        raise OSError("no such host")

    monkeypatch.setattr("jobs.io.runs._changed", unreachable)
    with pytest.raises(JobError, match="the storage is full"), recorded(log, SPEC):
        raise JobError("the storage is full")
    log.flush()
    assert told(warehouse) == [("run_night", 1, "started")]
    assert "its failure could not be recorded: OSError: no such host" in capsys.readouterr().out


def test_a_step_is_recorded_under_its_job_s_run_and_lease(log, warehouse):
    with recorded(log, SPEC, has_steps=True) as parent:
        # Nothing is written before the first step: a commit for each row would be most of the overhead.
        assert not log.warehouse.exists(pipeline_runs.TABLE)
        with step(parent, "ingest_events", Days.only(DAYS.first)) as run:
            assert run.writer is parent.writer and run.spec.days == Days.only(DAYS.first)
            log.flush()
            assert told(warehouse) == [("run_night", 1, "started"), ("ingest_events", 1, "started")]
            with pytest.raises(JobError, match=r"run_night of 2025-03-03\.\.2025-03-04 \(process"):
                take_folder(warehouse, "a second job")
        with step(parent, "embed_texts") as run:
            assert run.spec.days == DAYS
        # What is waiting to be written is known all the same.
        assert [(r.job, r.status) for r in log.records() if r.status != "started"] == [
            ("ingest_events", "done"),
            ("embed_texts", "done"),
        ]
    assert {r["run_id"] for r in rows_of(warehouse, "pipeline_runs")} == {"r"}
    assert told(warehouse)[-1] == ("run_night", 1, "done") and len(told(warehouse)) == 6
    assert not log.has_open_composite
    take_folder(warehouse, "a later job").release()


def test_a_step_that_fails_ends_its_job_and_both_are_recorded(log, warehouse):
    with (
        pytest.raises(JobError),
        recorded(log, SPEC, has_steps=True) as parent,
        step(parent, "ingest_events"),
    ):
        raise JobError("the storage is full")
    assert told(warehouse)[-2:] == [("ingest_events", 1, "failed"), ("run_night", 1, "failed")]


def test_a_step_that_ends_well_is_written_with_the_end_of_its_job(log, warehouse):
    with recorded(log, SPEC, has_steps=True) as parent:
        with recorded(log, replace(SPEC, job="publish_run"), "published", writer=parent.writer):
            pass
        log.flush()
        before = version_of(warehouse, "pipeline_runs")
        assert ("publish_run", 1, "published") not in told(warehouse)
        assert [r.status for r in log.records()][-1] == "published"
    assert told(warehouse)[-2:] == [("publish_run", 1, "published"), ("run_night", 1, "done")]
    assert version_of(warehouse, "pipeline_runs") == before + 1


@pytest.mark.parametrize("hours", [48, -25])
def test_records_follow_each_other_whatever_the_clock_says(log, warehouse, monkeypatch, capsys, hours):
    class Clock(datetime):
        """A clock that is wrong."""

        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=hours)

    with monkeypatch.context() as wrong:
        wrong.setattr("jobs.io.runs.datetime", Clock)
        with recorded(log, SPEC):
            pass
    with recorded(log, replace(SPEC, run_id="s")):
        pass
    assert [(r.run_id, r.status) for r in log.records()] == [
        ("r", "started"),
        ("r", "done"),
        ("s", "started"),
        ("s", "done"),
    ]
    assert told(warehouse)[-1] == ("run_night", 1, "done")
    said = capsys.readouterr().out
    assert ("runs are ordered by their records, not by clocks" in said) == (hours > 0)


def test_a_record_names_the_commits_of_what_it_wrote(log, warehouse):
    with recorded(log, SPEC) as run:
        write(run, "a")
    commit = (Path(warehouse) / TABLE.name / "_delta_log" / f"{1:020}.json").read_bytes()
    done = log.records()[-1]
    assert done.output_versions == {TABLE.name: 1}
    assert done.output_commits == {TABLE.name: hashlib.sha256(commit).hexdigest()[:16]}
    assert log.warehouse.commits({TABLE.name: 0}).keys() == {TABLE.name}
    assert log.warehouse.commits({TABLE.name: 9}) == {}


def test_records_of_others_are_seen_and_read_once(log, warehouse_at, warehouse, monkeypatch):
    with recorded(log, SPEC):
        pass
    assert len(log.records()) == 2
    with recorded(RunLog(warehouse_at(warehouse)), SPEC):
        pass
    assert [r.attempt for r in log.records() if r.status != "started"] == [1, 2]
    assert [r.status for r in log.records()] == ["started", "done"] * 2
    monkeypatch.setattr(type(log.warehouse), "read_version", None)
    assert len(log.records()) == 4
    assert version_of(warehouse, "pipeline_runs") == 4
