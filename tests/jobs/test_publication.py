"""What readers see after publications and undoings, and what must be done before a night is published."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from jobs.backfill_profiles import done_chunks
from jobs.io.runs import Record, refuse_holes, standing
from jobs.io.shell import JobError
from jobs.publish_run import CHAIN, refuse_unfinished, require_chain
from jobs.show_runs import next_step

DAY = date(2025, 3, 3)
NEXT = DAY + timedelta(days=1)
VERSIONS = {"profile_states": 3, "user_profiles": 2}


def record(job, status="done", first=DAY, last=DAY, minute=0, run_id="r", attempt=1):
    ended = None if status == "started" else datetime(2025, 3, 9, 1, minute, tzinfo=UTC)
    return Record(run_id, job, attempt, status, first, last, ended, VERSIONS, {"profile_states": minute})


def published(minute, **more):
    return record("publish_run", "published", minute=minute, **more)


def test_the_last_publication_that_was_not_undone_stands():
    first, second = published(1), published(2, first=NEXT, last=NEXT, run_id="s")
    undone = replace(second, status="undone", ended=datetime(2025, 3, 9, 1, 3, tzinfo=UTC))
    again = published(4, first=NEXT, last=NEXT, run_id="s", attempt=2)
    assert standing([first, second]) == [first, second]
    assert standing([first, second, undone]) == [first]
    assert standing([first, second, undone, again]) == [first, again]


def test_after_an_undoing_the_day_is_a_hole():
    with pytest.raises(JobError, match=f"{NEXT} is not published"):
        refuse_holes([published(1)], NEXT + timedelta(days=1), NEXT + timedelta(days=1), bootstrap=False, first_day=None)


def chain(*statuses):
    return [record(job, status, minute=i) for i, (job, status) in enumerate(zip(CHAIN, statuses, strict=True))]


def test_a_whole_chain_may_be_published():
    require_chain(chain("done", "done", "done", "done"), VERSIONS, DAY, DAY)


@pytest.mark.parametrize("missing", CHAIN)
def test_a_job_that_was_not_done_is_named(missing):
    done = [r for r in chain("done", "done", "done", "done") if r.job != missing]
    with pytest.raises(JobError, match=f"{missing} has not done {DAY}"):
        require_chain(done, VERSIONS, DAY, DAY)


def test_a_failed_check_is_not_outlived_by_an_older_one():
    later = record("check_tables", "failed", minute=9)
    with pytest.raises(JobError, match="check_tables failed on 2025-03-03 the last time"):
        require_chain([*chain("done", "done", "done", "done"), later], VERSIONS, DAY, DAY)


def test_what_changed_since_its_check_must_be_checked_again():
    now = VERSIONS | {"user_profiles": 3, "check_results": 9, "pipeline_runs": 9}
    with pytest.raises(JobError, match="user_profiles changed after the tables were checked for 2025-03-03"):
        require_chain(chain("done", "done", "done", "done"), now, DAY, DAY)


@pytest.mark.parametrize("status", ["started", "failed", "done"])
def test_a_later_day_that_was_begun_does_not_slip_out_with_an_older_one(status):
    ordered = [published(1), record("fold_profiles", status, first=NEXT, last=NEXT, minute=2)]
    with pytest.raises(JobError, match=f"{NEXT} was folded and is not published"):
        refuse_unfinished(ordered, DAY, DAY)
    refuse_unfinished(ordered, NEXT, NEXT)


def test_what_was_taken_back_does_not_slip_out_with_another_day():
    first, second = published(1), published(2, first=NEXT, last=NEXT, run_id="s")
    again = published(3, attempt=2)
    undone = replace(again, status="undone", ended=datetime(2025, 3, 9, 1, 4, tzinfo=UTC))
    third = NEXT + timedelta(days=1)
    with pytest.raises(JobError, match=f"{DAY} was taken back"):
        refuse_unfinished([first, second, again, undone], third, third)
    refuse_unfinished([first, second, again, undone], DAY, DAY)
    refuse_unfinished([first, second, again, undone, published(5, attempt=3)], third, third)


@pytest.mark.parametrize(
    ("after", "kept"),
    [([], 2), ([("publish_run", "published")], 0), ([("publish_run", "undone")], 0), ([("check_tables", "failed")], 0),
     ([("fold_profiles", "failed")], 2)],
)  # fmt: skip
def test_a_backfill_goes_on_where_it_was_killed_and_begins_anew_where_it_was_judged(after, kept):
    chunks = [record("ingest_events", minute=0), record("ingest_events", first=NEXT, last=NEXT, minute=1)]
    ordered = chunks + [record(job, status, last=NEXT, minute=2 + i) for i, (job, status) in enumerate(after)]
    assert len(done_chunks([*ordered, record("ingest_events", run_id="other", minute=9)], "r")) == kept


def row(job, status, **more):
    return {"run_id": "r", "job": job, "status": status, "date": DAY, "from_date": DAY} | more


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([row("run_night", "done"), row("publish_run", "published")], None),
        ([row("run_night", "failed"), row("fold_profiles", "failed")], "run_night of 2025-03-03 failed"),
        ([row("ingest_events", "done"), row("fold_profiles", "failed")], "fold_profiles of 2025-03-03 failed"),
        ([row("check_tables", "failed")], "rules do not hold for 2025-03-03"),
        ([row("run_night", "started"), row("embed_texts", "started")], "has not ended"),
        ([row("fold_profiles", "failed", run_id="old"), row("run_night", "done")], None),
        ([], None),
    ],
)
def test_show_runs_says_what_to_do_next(rows, told):
    step = next_step(rows)
    assert step is None if told is None else told in step
