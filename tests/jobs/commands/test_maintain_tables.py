"""Maintenance removes only what nobody needs: repairs, published versions and killed folds still work."""

import json
import os
import re
import shutil
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from jobs import backfill_profiles, embed_texts, fold_profiles, ingest_events, maintain_tables, run_night
from jobs.io.messages import JobError
from jobs.io.runs import RunLog
from jobs.io.warehouse import Writer
from jobs.maintain_tables import oldest_kept
from jobs.night.guards import thin_before
from schemas import profile_states, text_embeddings
from schemas.settings import MaintenanceSettings, Settings
from tests.e2e.tables import STATE_COLUMNS, call, rows_of, version_of
from tests.jobs.run_records import at, record
from tests.oracle import canonical_hash

FIRST, LAST, NEXT = date(2025, 2, 22), date(2025, 3, 7), date(2025, 3, 8)
CUTOFF = date(2025, 3, 2)  # the window of 2 days and 3 more before LAST
DATA = ("behavior_events", "items", "text_embeddings", "profile_states", "user_profiles")
# ann comes every day, bob seldom, cid twice.
VISITS = {
    "ann": [FIRST + timedelta(days=i) for i in range(15)],
    "bob": [*(date(2025, 2, d) for d in (22, 23, 27)), LAST],
    "cid": [date(2025, 2, 24), date(2025, 3, 1)],
}
LATE = date(2025, 3, 6)  # an event of bob that arrives on NEXT: folded from his last state of February


def event(user: str, day: date, hour: int) -> dict[str, str]:
    return {
        "event_id": f"{user}-{day}-{hour}",
        "user_id": user,
        "event_ts": f"{day}T{hour:02}:00:00Z",
        "event_type": "view",
        "text": f"{user} looked at thing {day.day}",
    }


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    arrived = {
        day: [event(user, day, 9) for user, days in VISITS.items() if day in days] for day in VISITS["ann"]
    }
    arrived[NEXT].append(event("bob", LATE, 10))
    for day, events in arrived.items():
        (folder / f"dt={day}").mkdir()
        (folder / f"dt={day}" / "events.jsonl").write_text(
            "".join(json.dumps(e) + "\n" for e in events), encoding="utf-8"
        )
        (folder / f"dt={day}" / "_SUCCESS").touch()
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("config") / "small.yaml"
    sections = (
        "engine: {kind: hash, hash_dimensions: 8}",
        "fold: {window_days: 2}",
        "maintenance: {thin_after_days: 3, small_files: 2}",
    )
    file.write_text("\n".join(sections), encoding="utf-8")
    return str(file)


def data_versions(warehouse):
    return {name: version_of(warehouse, name) for name in DATA}


def counts_of_newest(warehouse):
    """The counts of the newest maintenance that is done."""
    runs = [row for row in rows_of(warehouse, "pipeline_runs") if row["job"] == maintain_tables.JOB]
    done = [row for row in runs if row["status"] == "done"]
    return dict(max(done, key=lambda row: row["ended"])["counts"])


def published(warehouse):
    rows = [row for row in rows_of(warehouse, "pipeline_runs") if row["status"] == "published"]
    return [dict(row["output_versions"]) for row in sorted(rows, key=lambda row: row["ended"])]


def by_key(rows):
    return {(row["user_id"], row["facet"], row["as_of_date"]): row for row in rows}


@pytest.fixture(scope="module")
def plain(spark, logs, config, tmp_path_factory):
    """The days up to LAST, before any maintenance."""
    folder = tmp_path_factory.mktemp("plain") / "w"
    call(spark, backfill_profiles, folder, config, "--logs", logs, "--start", FIRST, "--end", LAST)
    return folder


@pytest.fixture(scope="module")
def complete(spark, logs, config, tmp_path_factory):
    """All days, folded at once."""
    folder = tmp_path_factory.mktemp("complete") / "w"
    call(spark, backfill_profiles, folder, config, "--logs", logs, "--start", FIRST, "--end", NEXT)
    return str(folder)


@pytest.fixture(scope="module")
def maintained(spark, plain, config, tmp_path_factory):
    """The days up to LAST after maintenance; tests only read it."""
    folder = shutil.copytree(plain, tmp_path_factory.mktemp("maintained") / "w")
    call(spark, maintain_tables, folder, config, "--date", LAST)
    return str(folder)


@pytest.fixture
def fresh(plain, tmp_path):
    return str(shutil.copytree(plain, tmp_path / "w"))


@pytest.fixture
def thinned(maintained, tmp_path):
    return str(shutil.copytree(maintained, tmp_path / "w"))


def test_old_states_are_thinned_to_the_first_and_the_last_of_each_month(plain, maintained):
    before, after = (
        by_key(rows_of(str(plain), "profile_states")),
        by_key(rows_of(maintained, "profile_states")),
    )
    last_of_month = defaultdict(lambda: date.min)
    for user, facet, day in before:
        if day < CUTOFF:
            month = user, facet, day.replace(day=1)
            last_of_month[month] = max(last_of_month[month], day)
    last_states = {
        key
        for key in before
        if key[2] >= CUTOFF or key[2] == last_of_month[key[0], key[1], key[2].replace(day=1)]
    }
    wanted = last_states | {key for key in before if before[key]["previous_as_of_date"] is None}
    assert after == {key: before[key] for key in wanted}
    assert counts_of_newest(maintained)["states_removed"] == len(before) - len(after) == 6


def test_every_daily_state_still_has_the_state_before_it(maintained):
    states = by_key(rows_of(maintained, "profile_states"))
    pointers = {
        (u, f, row["previous_as_of_date"])
        for (u, f, day), row in states.items()
        if day >= CUTOFF and row["previous_as_of_date"]
    }
    assert pointers <= states.keys()
    assert any(day < CUTOFF for _, _, day in pointers)


def test_all_other_rows_stay(plain, maintained):
    for name in set(DATA) - {"profile_states"}:
        assert sorted(map(str, rows_of(maintained, name))) == sorted(map(str, rows_of(str(plain), name)))
    counts = counts_of_newest(maintained)
    assert counts["files_compacted"] > 0 and counts["files_removed"] == 0
    assert len(list(Path(maintained, "pipeline_runs").glob("*.parquet"))) > 8


def test_a_publication_from_before_maintenance_is_readable(warehouse_at, plain, maintained):
    (versions,) = published(maintained)
    old = warehouse_at(maintained).read_version(profile_states.TABLE, versions["profile_states"])
    assert (
        old.count() == len(rows_of(str(plain), "profile_states")) > len(rows_of(maintained, "profile_states"))
    )


def test_a_rerun_makes_no_commit(spark, thinned, config):
    before = data_versions(thinned)
    call(spark, maintain_tables, thinned, config, "--date", LAST)
    assert data_versions(thinned) == before
    assert counts_of_newest(thinned) | {"files_compacted": 0} == dict.fromkeys(counts_of_newest(thinned), 0)


@pytest.mark.slow
def test_the_next_nights_repairs_find_their_restart_state(spark, logs, thinned, config, complete):
    merged = version_of(thinned, "user_profiles")
    call(spark, run_night, thinned, config, "--logs", logs, "--date", NEXT)
    states, wanted = rows_of(thinned, "profile_states"), rows_of(complete, "profile_states")
    assert by_key(wanted)["bob", "main", LATE]["previous_as_of_date"] == date(2025, 2, 27)
    kept = by_key(states)
    assert canonical_hash(states, STATE_COLUMNS) == canonical_hash(
        [r for k, r in by_key(wanted).items() if k in kept], STATE_COLUMNS
    )
    assert [key for key in by_key(wanted).keys() - kept.keys() if key[2] >= CUTOFF] == []
    latest = [canonical_hash(rows_of(w, "user_profiles"), STATE_COLUMNS) for w in (thinned, complete)]
    assert latest[0] == latest[1]
    # The fold trusted user_profiles: one commit, without rewriting the table first.
    assert version_of(thinned, "user_profiles") == merged + 1


@pytest.mark.slow
def test_a_thinned_history_can_be_rebuilt_and_continued(spark, logs, thinned, config, tmp_path):
    # A facet that no event enters changes no state: the last commit of profile_states stays maintenance's.
    nobody = tmp_path / "nobody.yaml"
    text = Path(config).read_text(encoding="utf-8")
    nobody.write_text(
        text.replace("window_days: 2", "window_days: 2, facets: [{name: nobody, where: 'FALSE'}]"),
        encoding="utf-8",
    )

    def killed(*args):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("jobs.night.steps.check_days", killed)
        call(spark, backfill_profiles, thinned, str(nobody), "--rebuild")
    # The rerun finds thinned days, and leaves them as they are.
    call(spark, backfill_profiles, thinned, str(nobody), "--rebuild")
    call(spark, run_night, thinned, str(nobody), "--logs", logs, "--date", NEXT)
    assert len(published(thinned)) == 3 and {
        row["as_of_date"] for row in rows_of(thinned, "profile_states")
    } >= {FIRST, NEXT}


def test_a_fold_that_would_restart_from_a_thinned_day_is_refused_by_name(spark, thinned, config):
    before = data_versions(thinned)
    with pytest.raises(JobError, match="1 profiles would have to be folded again from before 2025-02-27"):
        call(spark, fold_profiles, thinned, config, "--date", "2025-02-26")
    assert data_versions(thinned) == before


@pytest.mark.slow
def test_a_killed_fold_is_recognised_after_maintenance(spark, logs, fresh, config, complete, monkeypatch):
    def dies(writer, table, real=Writer.create):
        if table.name == "user_profiles":
            raise KeyboardInterrupt
        return real(writer, table)

    call(spark, ingest_events, fresh, config, "--logs", logs, "--date", NEXT)
    call(spark, embed_texts, fresh, config, "--date", NEXT)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Writer, "create", dies)
        call(spark, fold_profiles, fresh, config, "--date", NEXT)
    call(spark, maintain_tables, fresh, config, "--date", LAST)
    call(spark, run_night, fresh, config, "--logs", logs, "--date", NEXT)
    assert canonical_hash(rows_of(fresh, "user_profiles"), STATE_COLUMNS) == canonical_hash(
        rows_of(complete, "user_profiles"), STATE_COLUMNS
    )


def aged(warehouse: str, folder: Path, days: int) -> str:
    """A copy of the warehouse whose files were written, and left their tables, these days earlier."""
    copy = Path(shutil.copytree(warehouse, folder, ignore=shutil.ignore_patterns("*.crc")))
    for path in copy.rglob("*.parquet"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - days * 86400))
    for path in copy.glob("*/_delta_log/*.json"):
        earlier = re.sub(
            r'(?<="deletionTimestamp":)\d+',
            lambda m: str(int(m[0]) - days * 86_400_000),
            path.read_text(encoding="utf-8"),
        )
        path.write_text(earlier, encoding="utf-8")
    return str(copy)


def test_a_clock_that_ran_ahead_at_a_kept_publication_gives_no_file_of_it_away():
    def shown(minute, said):
        return replace(record("publish_run", "published", minute=minute, run_id=str(minute)), written=said)

    later = [record("run_night", minute=minute, run_id="s") for minute in (2, 3)]
    assert oldest_kept([], 3) is oldest_kept(later, 3) is None
    assert oldest_kept([shown(1, at(0) + timedelta(days=60)), *later], 3) == at(2)
    assert oldest_kept([shown(1, at(1)), *later, shown(4, at(4))], 1) == at(4)
    assert oldest_kept([shown(1, at(1)), *later, shown(4, at(0))], 2) == at(0)


@pytest.mark.slow
def test_vacuum_spares_the_kept_publications(spark, warehouse_at, logs, fresh, config, tmp_path, monkeypatch):
    call(spark, run_night, fresh, config, "--logs", logs, "--date", NEXT)
    ordered = RunLog(warehouse_at(fresh)).records()
    made = [oldest_kept(ordered, keep) for keep in (1, 2, 9)]
    assert made[0] > made[1] == made[2]
    first, second = published(fresh)
    # Files that the second publication no longer needs left their table 40 days ago, between the two.
    warehouse = aged(fresh, tmp_path / "aged", days=40)
    # Its commits are not those of the records any more.
    monkeypatch.setattr(maintain_tables, "refuse_losses", lambda *_: [])
    ago = {1: 35, 2: 45}
    monkeypatch.setattr(
        maintain_tables, "oldest_kept", lambda ordered, keep: datetime.now(UTC) - timedelta(days=ago[keep])
    )

    def states(version):
        return by_key(rows_of(warehouse, "profile_states", version["profile_states"]))

    def maintain(keep):
        file = tmp_path / f"keep_{keep}.yaml"
        file.write_text(
            Path(config).read_text(encoding="utf-8").replace("{thin", f"{{keep_publications: {keep}, thin"),
            encoding="utf-8",
        )
        call(spark, maintain_tables, warehouse, str(file), "--date", LAST)
        return counts_of_newest(warehouse)["files_removed"]

    before = states(first), states(second)
    assert maintain(keep=2) == 0
    assert (states(first), states(second)) == before
    assert maintain(keep=1) > 0 and counts_of_newest(warehouse)["bytes_removed"] > 0
    assert states(second) == before[1]
    with pytest.raises(Exception, match=r"(?i)not found|no such file"):
        states(first)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(spark, fresh, config, capfd):
    before = data_versions(fresh) | {"pipeline_runs": version_of(fresh, "pipeline_runs")}
    call(spark, maintain_tables, fresh, config, "--date", LAST, "--dry-run")
    assert data_versions(fresh) | {"pipeline_runs": version_of(fresh, "pipeline_runs")} == before
    assert "6 states removed" in capfd.readouterr().out


def test_a_day_that_is_not_published_is_refused(spark, fresh, config):
    with pytest.raises(JobError, match=f"{NEXT} is not published"):
        call(spark, maintain_tables, fresh, config, "--date", NEXT)


def test_when_files_may_be_removed():
    now, rules = datetime(2025, 9, 1, tzinfo=UTC), MaintenanceSettings()
    published = (None, now - timedelta(days=5), now - timedelta(days=50), now - timedelta(days=500))
    days = [(now - maintain_tables.removable_before(now, kept, rules)).days for kept in published]
    # Never sooner than the settings allow, later for a publication, but never before HISTORY_DAYS.
    assert days == [30, 30, 51, 179]


def test_daily_states_are_kept_for_the_window_and_beyond():
    assert thin_before(date(2025, 3, 7), Settings()) == date(2025, 1, 29)


def test_a_partition_is_crowded_by_its_small_files_alone(spark):
    sizes = [("a", 1), ("a", 2), ("b", 1), ("b", 64 << 20), ("c", 64 << 20), ("c", 64 << 20)]
    files = spark.createDataFrame(
        [({"model_key": key}, size) for key, size in sizes], "partitionValues map<string,string>, size long"
    )
    found = maintain_tables.crowded(
        files, text_embeddings.TABLE, MaintenanceSettings(small_files=2)
    ).collect()
    assert [(row["part"], row["files"]) for row in found] == [("a", 2)]
