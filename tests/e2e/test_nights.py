"""Whole nights and ranges on a demo log, with the hash engine: the laws, each where it can be seen to break."""

import json
from datetime import date
from pathlib import Path

import pytest

from jobs import (
    backfill_profiles,
    embed_texts,
    fold_profiles,
    ingest_events,
    make_demo_logs,
    publish_run,
    run_night,
)
from jobs.io.messages import JobError
from tests.e2e.tables import STATE_COLUMNS, call, differences, rows_of, version_of
from tests.oracle import canonical_hash

FIRST, LAST = date(2025, 3, 3), date(2025, 3, 6)
DAYS = [date(2025, 3, day) for day in range(3, 7)]
DATA = (
    "behavior_events",
    "quarantined_events",
    "items",
    "text_embeddings",
    "profile_states",
    "user_profiles",
)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "logs"
    assert (
        make_demo_logs.main(["--logs", str(folder), "--days", "4", "--users", "25", "--start", str(FIRST)])
        == 0
    )
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("config") / "hash.yaml"
    file.write_text("engine: {kind: hash, tile_texts: 40}\n", encoding="utf-8")
    return str(file)


def profiles(warehouse, table="profile_states"):
    return canonical_hash(rows_of(str(warehouse), table), STATE_COLUMNS)


def latest_states(warehouse):
    rows = sorted(rows_of(warehouse, "profile_states"), key=lambda row: row["as_of_date"])
    return {(row["user_id"], row["facet"]): row for row in rows}


@pytest.fixture(scope="module")
def by_backfill(spark, logs, config, tmp_path_factory):
    warehouse = tmp_path_factory.mktemp("backfill") / "w"
    call(spark, backfill_profiles, warehouse, config, "--logs", logs, "--start", FIRST, "--end", LAST)
    return warehouse


@pytest.fixture(scope="module")
def by_nights(spark, logs, config, tmp_path_factory):
    warehouse = tmp_path_factory.mktemp("nights") / "w"
    for day in DAYS:
        call(
            spark,
            run_night,
            warehouse,
            config,
            "--logs",
            logs,
            "--date",
            day,
            *(["--bootstrap"] if day == FIRST else []),
        )
    return warehouse


def test_profiles_are_what_a_plain_fold_gives(by_backfill):
    assert differences(str(by_backfill), LAST) == []


def test_nights_and_a_backfill_give_the_same_bits(by_nights, by_backfill):
    assert profiles(by_nights) == profiles(by_backfill)
    assert profiles(by_nights, "user_profiles") == profiles(by_backfill, "user_profiles")


def test_user_profiles_are_the_latest_states(by_nights):
    assert (
        {(r["user_id"], r["facet"]): r for r in rows_of(str(by_nights), "user_profiles")}
        == latest_states(str(by_nights))
        != {}
    )


def test_every_record_is_accounted_for(by_nights, logs):
    planted = json.loads((logs / "_truth" / "dirt.json").read_text(encoding="utf-8"))["days"]
    for run in rows_of(str(by_nights), "pipeline_runs"):
        counts = dict(run["counts"])
        if run["job"] == "ingest_events" and run["status"] == "done":
            day = planted[str(run["date"])]
            assert (
                counts["read"]
                == day["lines"]
                == counts["stored"] + counts["quarantined"] + counts["duplicate"]
            )
            assert counts["duplicate"] == day["double"]
            assert (
                counts["quarantined"] == day["missing_user"] + day["bad_time"] + day["torn"] + day["too_late"]
            )
        if run["job"] == "fold_profiles" and run["status"] == "done":
            rest = ("folded", "zero_weight", "retract", "retracted", "without_vector")
            assert counts["stored"] == sum(counts[name] for name in rest) > 0


def test_a_rerun_changes_no_row_and_starts_no_engine(spark, logs, config, by_nights, monkeypatch):
    def no_engine(*args):
        raise AssertionError("a rerun with nothing new asked for the engine")

    monkeypatch.setattr("jobs.embed.days.embed_tile", no_engine)
    before = {name: version_of(str(by_nights), name) for name in DATA}
    for day in (LAST, DAYS[1]):
        call(spark, run_night, by_nights, config, "--logs", logs, "--date", day)
    assert {name: version_of(str(by_nights), name) for name in DATA} == before
    published = [row for row in rows_of(str(by_nights), "pipeline_runs") if row["status"] == "published"]
    assert len(published) == len(DAYS)


def test_a_night_killed_after_the_embed_stage_embeds_nothing_twice(
    spark, logs, config, by_backfill, warehouse
):
    call(spark, ingest_events, warehouse, config, "--logs", logs, "--date", FIRST)
    call(spark, embed_texts, warehouse, config, "--date", FIRST)
    embedded = version_of(warehouse, "text_embeddings")
    call(spark, run_night, warehouse, config, "--logs", logs, "--date", FIRST, "--bootstrap")
    assert version_of(warehouse, "text_embeddings") == embedded
    first_day = [row for row in rows_of(str(by_backfill), "profile_states") if row["as_of_date"] == FIRST]
    assert [r for r in rows_of(warehouse, "profile_states") if r["as_of_date"] == FIRST]
    assert {r["user_id"] for r in rows_of(warehouse, "profile_states")} >= {r["user_id"] for r in first_day}


def test_a_fold_killed_between_its_two_commits_is_mended(
    spark, logs, config, by_backfill, warehouse, monkeypatch
):
    def killed(*args):
        raise KeyboardInterrupt

    call(spark, ingest_events, warehouse, config, "--logs", logs, "--date", FIRST)
    call(spark, embed_texts, warehouse, config, "--date", FIRST)
    with monkeypatch.context() as patched:
        patched.setattr(
            fold_profiles.delta,
            "open_table",
            lambda s, w, t, real=fold_profiles.delta.open_table: (
                killed() if t.name == "user_profiles" else real(s, w, t)
            ),
        )
        with pytest.raises(KeyboardInterrupt):
            call(spark, fold_profiles, warehouse, config, "--date", FIRST, "--bootstrap")
    call(spark, run_night, warehouse, config, "--logs", logs, "--date", FIRST, "--bootstrap")
    assert (
        latest_states(warehouse)
        == {(r["user_id"], r["facet"]): r for r in rows_of(warehouse, "user_profiles")}
        != {}
    )
    assert differences(warehouse, FIRST) == []


def test_a_missing_day_is_refused_by_name(spark, logs, config, warehouse):
    with pytest.raises(JobError, match="begin its history"):
        call(spark, run_night, warehouse, config, "--logs", logs, "--date", FIRST)
    call(spark, run_night, warehouse, config, "--logs", logs, "--date", FIRST, "--bootstrap")
    with pytest.raises(JobError, match=f"{DAYS[1]} is not published"):
        call(spark, run_night, warehouse, config, "--logs", logs, "--date", LAST)
    with pytest.raises(JobError, match=f"ingest_events has not done {DAYS[1]}"):
        call(spark, publish_run, warehouse, config, "--date", DAYS[1])


def test_other_fold_settings_are_refused(spark, logs, by_nights, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("{engine: {kind: hash}, fold: {alpha: 0.5}}", encoding="utf-8")
    before = list(map(str, rows_of(by_nights, "pipeline_runs")))
    days = ["--start", FIRST, "--end", LAST]
    for job, arguments in (
        (fold_profiles, ["--date", LAST]), (run_night, ["--logs", logs, "--date", LAST]), (backfill_profiles, ["--logs", logs, *days]),
    ):  # fmt: skip
        with pytest.raises(JobError, match="other settings"):
            call(spark, job, by_nights, str(other), *arguments)
    # They ask before the ingest: no step is noted as begun, which a rebuild would have to finish.
    told = {
        (row["job"], row["status"]) for row in rows_of(by_nights, "pipeline_runs") if str(row) not in before
    }
    assert told == {
        (job, status) for job in ("run_night", "backfill_profiles") for status in ("started", "failed")
    }
