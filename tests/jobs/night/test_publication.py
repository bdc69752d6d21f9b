"""Which jobs must have done a day before it is published."""

from dataclasses import replace

import pytest

from jobs.io.messages import JobError
from jobs.night.publication import checked_versions, refuse_erasure
from jobs.night.steps import CHAIN, required_jobs
from schemas.settings import RecommendSettings, Settings
from tests.jobs.run_records import DAY, ON_DAY, VERSIONS, days, published, record


def chain(*statuses):
    done = zip(CHAIN, statuses, strict=True)
    return [record(job, status, minute=minute) for minute, (job, status) in enumerate(done)]


DONE = chain(*["done"] * len(CHAIN))


def test_a_complete_chain_may_be_published():
    assert checked_versions(DONE, CHAIN, VERSIONS, ON_DAY) == VERSIONS


@pytest.mark.parametrize("missing", CHAIN)
def test_a_job_that_has_not_done_the_day_is_named(missing):
    others = [r for r in DONE if r.job != missing]
    with pytest.raises(JobError, match=f"{missing} has not done {DAY}"):
        checked_versions(others, CHAIN, VERSIONS, ON_DAY)


def test_every_day_of_a_range_must_be_done():
    with pytest.raises(JobError, match=f"ingest_events has not done {days(1).first}; run it first"):
        checked_versions(DONE, CHAIN, VERSIONS, days(0, 1))


def test_a_failed_check_counts_more_than_an_older_one_that_passed():
    later = record("check_tables", "failed", minute=9)
    with pytest.raises(JobError, match="check_tables failed on 2025-03-03 the last time"):
        checked_versions([*DONE, later], CHAIN, VERSIONS, ON_DAY)


def test_tables_that_changed_since_the_check_must_be_checked_again():
    now = VERSIONS | {"user_profiles": 3, "check_results": 9, "pipeline_runs": 9}
    with pytest.raises(JobError, match="user_profiles changed after the tables were checked for 2025-03-03"):
        checked_versions(DONE, CHAIN, now, ON_DAY)


def test_what_was_checked_is_published_whatever_other_jobs_wrote_since():
    """A training that is stored between the check and the publication, and one before the check."""
    checked = [*DONE[:-1], replace(DONE[-1], input_versions=VERSIONS | {"ranking_models": 4})]
    now = VERSIONS | {"ranking_models": 5, "erased_users": 0, "check_results": 9, "pipeline_runs": 9}
    found = checked_versions(checked, CHAIN, now, ON_DAY)
    assert found == VERSIONS | {"ranking_models": 4, "check_results": 9}
    # An erasure has published its own commits since: readers never see again what it took away.
    shown = replace(published(8), output_versions={"ranking_models": 5, "erased_users": 0})
    found = checked_versions([*checked, shown], CHAIN, now, ON_DAY)
    assert found == {name: version for name, version in now.items() if name != "pipeline_runs"}
    # Of lost commits, made good by fewer, none is named that is not there.
    found = checked_versions([*checked, shown], CHAIN, now | {"ranking_models": 3}, ON_DAY)
    assert found["ranking_models"] == 3


def test_a_night_whose_lists_failed_is_not_published_where_nights_make_lists():
    failed = [r for r in DONE if r.job != "recommend_items"]
    failed.append(record("recommend_items", "failed", minute=9))
    nightly = Settings(recommend=RecommendSettings(nightly=True))
    assert set(CHAIN) - set(required_jobs(Settings())) == {"recommend_items"}
    checked_versions(failed, required_jobs(Settings()), VERSIONS, ON_DAY)
    with pytest.raises(JobError, match=f"recommend_items has not done {DAY}; run it first"):
        checked_versions(failed, required_jobs(nightly), VERSIONS, ON_DAY)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], None),
        # A day that is ingested ahead of its night shows as nothing but events of later days.
        ([record("ingest_events", of=days(3), minute=5, wrote=("behavior_events",))], None),
        ([record("ingest_events", of=days(1), minute=5, wrote=("items",))], "was ingested and not finished"),
        ([record("ingest_events", "started", of=days(0), minute=5)], "was ingested and not finished"),
        ([record("fold_profiles", of=days(3), minute=5)], "was folded and is not published"),
        ([record("publish_run", "undone", of=days(2), minute=5, run_id="n")], "was rolled back"),
    ],
)
def test_an_erasure_publishes_no_unfinished_day(more, told):
    ordered = [published(1, days(0, 1)), published(2, days(2), run_id="n"), *more]
    if told is None:
        refuse_erasure(ordered)
        return
    with pytest.raises(JobError, match=told):
        refuse_erasure(ordered)


def test_an_erasure_of_unpublished_tables_shows_nobody_anything():
    refuse_erasure([record("ingest_events", of=days(1), minute=5, wrote=("items",))])
