"""A table that lost its newest commits is named before a night builds on it, and the advice heals it.

What a power loss, a restored backup and a copy made while a night ran leave: each on a copy of two nights,
healed by the command that the refusal names, and held against nights that nothing disturbed.
"""

import re
import shutil
from pathlib import Path

import pytest

from jobs import (
    backfill_profiles,
    check_tables,
    embed_texts,
    fold_profiles,
    ingest_events,
    maintain_tables,
    publish_run,
    run_night,
)
from jobs.io.messages import JobError
from jobs.io.reading import published_versions
from tests.e2e.conftest import DAYS, FIRST
from tests.e2e.tables import call, rows_of, state_hashes

LAST, NEXT = DAYS[1], DAYS[2]
TABLES = (
    "behavior_events",
    "profile_states",
    "pipeline_runs",
    "items",
    "quarantined_events",
    "text_embeddings",
    "user_profiles",
    "check_results",
)
# What is the same in every warehouse with the same history: all but names and times of runs.
COLUMNS_OF_RUNS = {"created_run"}
CONTENT = ("behavior_events", "items", "quarantined_events", "text_embeddings")


def commits(warehouse: Path | str, table: str) -> list[Path]:
    """The commit files of a table, the oldest first."""
    return sorted((Path(warehouse) / table / "_delta_log").glob("0*.json"))


def refusal_of(table: str) -> str:
    """What is said after the newest commit of a table is gone; the second day has no bad record."""
    day = FIRST if table == "quarantined_events" else LAST
    return (
        f"^{table}: what was written for {day} is gone or was replaced, .*; run run_night --date {day} first$"
    )


def lose_newest(warehouse: Path | str, table: str, count: int = 1) -> None:
    """Removes the newest commits, with every file that holds a checksum of them."""
    for commit in commits(warehouse, table)[-count:]:
        for file in [*commit.parent.glob(f"{commit.stem}.*"), *commit.parent.glob(f".{commit.stem}.*")]:
            file.unlink()


def content(warehouse: Path | str) -> dict[str, list[str]]:
    """The rows of the tables without what names a run."""
    return {
        table: sorted(
            repr({name: value for name, value in row.items() if name not in COLUMNS_OF_RUNS})
            for row in rows_of(str(warehouse), table)
        )
        for table in CONTENT
    }


@pytest.fixture
def copied(after_nights, tmp_path):
    """A copy at a path of its own: Delta remembers what it read at another."""
    return shutil.copytree(after_nights(2), tmp_path / "w")


@pytest.fixture
def night(spark, copied, config, logs):
    return lambda day: call(spark, run_night, copied, config, "--logs", logs, "--date", day)


@pytest.fixture
def follow(spark, copied, config, logs, night):
    """Runs the command that a refusal names."""

    def run(refused: pytest.ExceptionInfo[JobError]) -> None:
        said = str(refused.value)
        if ranged := re.search(r"run backfill_profiles --start (\S+) --end (\S+) first", said):
            first, last = ranged.groups()
            span = ("--start", first, "--end", last)
            call(spark, backfill_profiles, copied, config, "--logs", logs, *span)
            return
        named = re.search(r"run (?:run_night --date (\S+) first|that day first)", said)
        assert named, said
        night(named[1] or re.findall(r"\d{4}-\d\d-\d\d", said)[0])

    return run


# The fast suite has the refusals of each table, and the rules of the advice in tests/jobs/night.
@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_a_lost_newest_commit_is_refused_and_the_advice_heals_it(table, after_nights, copied, night, follow):
    lose_newest(copied, table)
    before = {name: commits(copied, name) for name in TABLES}
    # The records that are lost are those of the publication: the day stands there as folded alone.
    unpublished = f"^{LAST} is not published; run that day first"
    said = unpublished if table == "pipeline_runs" else refusal_of(table)
    with pytest.raises(JobError, match=said) as refused:
        night(NEXT)
    assert {name: commits(copied, name) for name in TABLES} == before
    follow(refused)
    night(NEXT)
    undisturbed = after_nights(3)
    assert state_hashes(copied) == state_hashes(undisturbed)
    assert content(copied) == content(undisturbed)


@pytest.mark.parametrize("table", [name for name in TABLES if name != "pipeline_runs"])
def test_no_job_works_on_a_table_that_lost_a_commit_but_the_one_that_writes_it_again(
    spark, copied, config, logs, table
):
    lose_newest(copied, table)
    for job, *more in (
        (run_night, "--logs", logs, "--date", NEXT),
        (backfill_profiles, "--logs", logs, "--start", NEXT, "--end", NEXT),
        (ingest_events, "--logs", logs, "--date", NEXT),
        (embed_texts, "--date", NEXT),
        (fold_profiles, "--date", NEXT),
        (check_tables, "--date", NEXT),
        (publish_run, "--date", LAST),
        (publish_run, "--undo", LAST),
        (maintain_tables, "--date", LAST),
        (maintain_tables, "--date", LAST, "--dry-run"),
    ):
        with pytest.raises(JobError, match=refusal_of(table)):
            call(spark, job, copied, config, *more)


@pytest.mark.slow
def test_steps_of_their_own_heal_in_their_order(spark, after_nights, copied, config, logs, night):
    lose_newest(copied, "behavior_events")
    lose_newest(copied, "profile_states")
    for job in (embed_texts, fold_profiles, check_tables, publish_run):
        with pytest.raises(JobError, match=f"run run_night --date {LAST} first"):
            call(spark, job, copied, config, "--date", LAST)
    call(spark, ingest_events, copied, config, "--logs", logs, "--date", LAST)
    # Events are there again, states are not.
    with pytest.raises(JobError, match=r"^profile_states: "):
        call(spark, check_tables, copied, config, "--date", LAST)
    for job in (embed_texts, fold_profiles, check_tables, publish_run):
        call(spark, job, copied, config, "--date", LAST)
    night(NEXT)
    assert state_hashes(copied) == state_hashes(after_nights(3))


@pytest.mark.slow
def test_commits_of_several_nights_are_written_again_by_one_range(after_nights, copied, night, follow):
    for table, count in (("behavior_events", 2), ("profile_states", 1), ("items", 2)):
        lose_newest(copied, table, count)
    with pytest.raises(
        JobError, match=f"run backfill_profiles --start {FIRST} --end {LAST} first"
    ) as refused:
        night(NEXT)
    with pytest.raises(JobError, match=f"run backfill_profiles --start {FIRST} --end {LAST} first"):
        night(LAST)
    follow(refused)
    night(NEXT)
    assert state_hashes(copied) == state_hashes(after_nights(3))
    assert content(copied) == content(after_nights(3))


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_is_gone_is_written_again(after_nights, copied, night, follow, table):
    shutil.rmtree(copied / table)
    for _ in range(3):
        try:
            night(NEXT)
            break
        except JobError as error:
            said = pytest.ExceptionInfo.from_exception(error)
            # A history without records is begun anew by whoever says so.
            follow(said)
    assert state_hashes(copied) == state_hashes(after_nights(3))
    assert content(copied) == content(after_nights(3))


@pytest.mark.slow
def test_a_commit_of_another_history_is_refused_and_healed(after_nights, copied, night, follow):
    newest = commits(copied, "profile_states")[-1]
    newest.write_text(newest.read_text().replace('"run_id', '"ran_id'))
    newest.with_name(f".{newest.name}.crc").unlink()
    with pytest.raises(
        JobError, match=rf"^profile_states: .*; run run_night --date {LAST} first$"
    ) as refused:
        night(NEXT)
    follow(refused)
    night(NEXT)
    assert state_hashes(copied) == state_hashes(after_nights(3))


def test_a_commit_without_content_is_refused(copied, night):
    newest = commits(copied, "behavior_events")[-1]
    newest.write_text("")
    for checksum in (newest.with_name(f".{newest.name}.crc"), newest.with_suffix(".crc")):
        checksum.unlink(missing_ok=True)
    with pytest.raises(JobError, match=rf"^behavior_events: .*; run run_night --date {LAST} first$"):
        night(NEXT)


@pytest.mark.slow
def test_a_copy_whose_records_are_older_than_its_tables_is_refused(
    spark, after_nights, copied, config, logs, tmp_path, follow, night
):
    # The records of the first night, and the tables of the second.
    shutil.rmtree(copied / "pipeline_runs")
    shutil.copytree(after_nights(1) / "pipeline_runs", copied / "pipeline_runs")
    with pytest.raises(JobError, match=f"^pipeline_runs: .*; run run_night --date {LAST} first") as refused:
        night(NEXT)
    follow(refused)
    night(NEXT)
    assert state_hashes(copied) == state_hashes(after_nights(3))


@pytest.mark.slow
def test_what_maintenance_wrote_is_written_again_by_maintenance(spark, copied, config, night, tmp_path):
    small = tmp_path / "small.yaml"
    small.write_text(
        "{engine: {kind: hash, tile_texts: 40}, maintenance: {small_files: 2}}", encoding="utf-8"
    )
    call(spark, maintain_tables, copied, str(small), "--date", LAST)
    moved = shutil.copytree(copied, tmp_path / "moved")
    lose_newest(moved, "items")
    with pytest.raises(JobError, match=r"^items: .*; run maintain_tables again first$"):
        call(spark, publish_run, moved, config, "--undo", LAST)
    call(spark, maintain_tables, moved, str(small), "--date", LAST)
    call(spark, publish_run, moved, config, "--undo", LAST)


@pytest.mark.slow
def test_a_stopped_range_ingests_a_chunk_again_that_was_lost(
    spark, after_nights, logs, config, tmp_path, monkeypatch
):
    def run(warehouse):
        span = ("--start", FIRST, "--end", NEXT)
        call(spark, backfill_profiles, warehouse, config, "--logs", logs, *span)

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("jobs.night.steps.embed_days", dies)
        run(tmp_path / "stopped")
    moved = shutil.copytree(tmp_path / "stopped", tmp_path / "moved")
    lose_newest(moved, "behavior_events")
    run(moved)
    assert state_hashes(moved) == state_hashes(after_nights(3))


@pytest.mark.slow
def test_what_a_killed_job_leaves_is_no_loss(spark, copied, config, logs, night, monkeypatch):
    def dies(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("jobs.io.runs._changed", dies)
        call(spark, ingest_events, copied, config, "--logs", logs, "--date", NEXT)
    before = published_versions(str(copied))
    night(NEXT)
    assert published_versions(str(copied)) != before
