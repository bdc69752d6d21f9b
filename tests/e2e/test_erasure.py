"""An erased user is in no file of any version, nothing brings them back, and others stay as they were."""

import json
import re
import shutil
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import backfill_profiles, erase_users, maintain_tables, publish_run, run_night
from jobs.io.days import Days
from jobs.io.messages import JobError
from jobs.io.reading import published_versions
from jobs.io.runs import RunLog, RunSpec, recorded
from jobs.io.warehouse import Warehouse, Writer
from schemas.all_tables import ALL_TABLES
from tests.e2e.tables import STATE_COLUMNS, call, rows_of, version_of
from tests.oracle import canonical_hash

FIRST, LAST, NEXT = date(2025, 4, 1), date(2025, 4, 3), date(2025, 4, 4)
PUBLISHED = [FIRST + timedelta(days=n) for n in range(3)]
GONE, FRIEND = "anneliese", "bartholomew"
USERS = [GONE, FRIEND, *(f"user-{n}" for n in range(8))]
# An item that no other user's event is about.
HERS = "a name that nobody else uses"
TABLES = [table.name for table in ALL_TABLES]
STATES = ("profile_states", "user_profiles")
SETTINGS = """engine: {kind: hash, hash_dimensions: 8}
ingest: {max_bad_share: 1}
maintenance: {small_files: 2}
fold: {facets: [{name: together, where: size(companions) > 1}]}
"""


def event(user: str, day: date, n: int, **more: object) -> dict[str, object]:
    moment = f"{day}T{10 + n}:00:00Z"
    given = {"event_id": f"shop-{user}-{day:%d}-{n}", "user_id": user, "event_ts": moment}
    return given | {"event_type": "view", "item_id": f"item-{n}", "text": f"words of {user} {n}"} | more


def lines_of(day: date) -> list[str]:
    """A day of two events a user, with everything that could hold on to the user who will go."""
    late = day - timedelta(days=1)
    events = [event(user, day, n) for user in USERS for n in (1, 2)]
    events += [event(user, day, 3, text="what everybody says") for user in (GONE, FRIEND)]
    events += [event(FRIEND, day, 4, companions=[GONE, "family"]), event(GONE, day, 4, companions=[FRIEND])]
    events += [event(GONE, day, 5, event_ts=f"{late}T20:00:00Z", session_id=f"{GONE}-s1")]
    events += [event(GONE, day, 9, item_id="hers", title=HERS)]
    bad = [event(user, day, 6, rating=9) for user in (GONE, FRIEND, "user-1")]
    bad += [event(GONE, day, 7, user_id=None), event(FRIEND, day, 7, rating=9, companions=[GONE])]
    torn = json.dumps(event(GONE, day, 8))[:90]
    return [*map(json.dumps, events + bad), torn]


def deliver(folder: Path, days: list[date], without: str | None = None) -> Path:
    for day in days:
        target = folder / f"dt={day}"
        target.mkdir(parents=True)
        lines = [line for line in lines_of(day) if without is None or f'"user_id": "{without}"' not in line]
        (target / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if day == NEXT:
            # A file of an earlier day, delivered again.
            shutil.copy(folder / f"dt={LAST}" / "events.jsonl", target / "again.jsonl")
        (target / "_SUCCESS").touch()
    return folder


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return deliver(tmp_path_factory.mktemp("logs"), [*PUBLISHED, NEXT])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "settings.yaml"
    file.write_text(SETTINGS, encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def ids(tmp_path_factory):
    file = tmp_path_factory.mktemp("ids") / "ids.txt"
    file.write_text(f"{GONE}\nnever-seen-here\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def before(spark, logs, config, tmp_path_factory):
    """Two publications: a range and a night. Tests only read it."""
    warehouse = tmp_path_factory.mktemp("before") / "w"
    span = ["--start", FIRST, "--end", PUBLISHED[1]]
    call(spark, backfill_profiles, warehouse, config, "--logs", logs, *span)
    call(spark, run_night, warehouse, config, "--logs", logs, "--date", LAST)
    log = RunLog(Warehouse(spark, str(warehouse)))
    spec = RunSpec("maintain_tables", "failed", Days.only(LAST), "hash")
    with suppress(JobError), recorded(log, spec):
        raise JobError(f"{logs}/{GONE}-7.jsonl.gz is cut off")
    (warehouse / "behavior_events" / "part-left-behind.parquet").write_bytes(f"PAR1 {GONE}".encode())
    # Of a training that was killed before its row.
    (warehouse / "_models").mkdir()
    (warehouse / "_models" / "2025-04-03-0.npz").write_bytes(f"PK {HERS}".encode())
    return warehouse


@pytest.fixture(scope="module")
def erased(spark, before, config, ids, tmp_path_factory):
    """The same after the erasure. Tests only read it."""
    warehouse = shutil.copytree(before, tmp_path_factory.mktemp("erased") / "w")
    call(spark, erase_users, warehouse, config, "--ids", ids, "--date", LAST)
    return warehouse


@pytest.fixture
def copied(erased, tmp_path):
    return shutil.copytree(erased, tmp_path / "w")


@pytest.fixture(scope="module")
def never_there(spark, logs, config, tmp_path_factory):
    """All days of a log that never had the user, folded at once."""
    folder = tmp_path_factory.mktemp("never")
    own = deliver(folder / "logs", [*PUBLISHED, NEXT], without=GONE)
    call(spark, backfill_profiles, folder / "w", config, "--logs", own, "--start", FIRST, "--end", NEXT)
    return folder / "w"


def files_with(warehouse: Path, *texts: str) -> list[str]:
    """The files that hold one of the texts, in their bytes or in what their columns decode to."""
    found = []
    for file in sorted(path for path in Path(warehouse).rglob("*") if path.is_file()):
        content = file.read_bytes()
        if content.startswith(b"PAR1") and file.name != "part-left-behind.parquet":
            content += repr(pq.read_table(file, partitioning=None).to_pylist()).encode()
        if any(text.encode() in content for text in texts):
            found.append(str(file.relative_to(warehouse)))
    return found


def hash_of(warehouse: Path, table: str, without: str = "") -> str:
    """The canonical hash of a table of states, but for one user's rows."""
    stored = [row for row in rows_of(str(warehouse), table) if row["user_id"] != without]
    return canonical_hash(stored, STATE_COLUMNS)


def hashes(warehouse: Path, without: str = "") -> list[str]:
    return [hash_of(warehouse, table, without) for table in STATES]


def newest(warehouse: Path, job: str, status: str = "done") -> dict[str, int]:
    runs = [r for r in rows_of(str(warehouse), "pipeline_runs") if (r["job"], r["status"]) == (job, status)]
    return dict(max(runs, key=lambda row: row["ended"])["counts"])


def content(warehouse: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(Path(warehouse).rglob("*")) if p.is_file()}


# ---- what is gone, and what stays


def test_no_file_of_any_version_holds_the_user(before, erased):
    held = {name.split("/")[0] for name in files_with(before, GONE)}
    tables = {"behavior_events", "quarantined_events", "profile_states", "user_profiles", "pipeline_runs"}
    assert held == tables and files_with(erased, GONE) == []


def test_other_users_stay_as_they_were_to_the_bit(before, erased):
    assert hashes(before, without=GONE) == hashes(erased) != hashes(before)
    assert {row["facet"] for row in rows_of(str(erased), "user_profiles")} == {"main", "together"}
    kept = [row for row in rows_of(str(before), "behavior_events") if row["user_id"] != GONE]
    for row in kept:
        row["companions"] = row["companions"] and [n.replace(GONE, "[erased]") for n in row["companions"]]
    assert sorted(map(repr, kept)) == sorted(map(repr, rows_of(str(erased), "behavior_events")))


def test_a_text_goes_with_its_last_user(before, erased):
    texts = {row["text_key"]: row["text"] for row in rows_of(str(before), "behavior_events")}
    left = {texts[row["text_key"]] for row in rows_of(str(erased), "text_embeddings")}
    assert left == {text for text in texts.values() if GONE not in text} and "what everybody says" in left


def test_an_item_goes_that_only_the_users_events_name(before, erased):
    assert "hers" in {row["item_id"] for row in rows_of(str(before), "items")}
    assert files_with(before, HERS) != [] == files_with(erased, HERS)


def test_rejected_records_of_others_stay(before, erased):
    raw = [row["raw"] for row in rows_of(str(before), "quarantined_events") if GONE not in row["raw"]]
    assert sorted(raw) == sorted(row["raw"] for row in rows_of(str(erased), "quarantined_events")) != []


def test_the_user_is_listed_by_hash_alone(erased):
    listed = rows_of(str(erased), "erased_users")
    assert [(row["erased_on"], row["rows_gone"]) for row in listed] == [(LAST, True)] * 2
    assert all(re.fullmatch("[0-9a-f]{64}", row["user_hmac"]) for row in listed)


def test_the_proof_counts_every_file_and_names_nobody(before, erased):
    (file,) = (erased / "_erasure").glob("*.json")
    proof = json.loads(file.read_text(encoding="utf-8"))
    assert (proof["hits"], proof["mentions"], proof["files_with_hits"]) == (0, 0, [])
    assert (proof["ids"], proof["ids_searched_everywhere"]) == (2, 2)
    assert {"behavior_events", "text_embeddings", "pipeline_runs", "_lease"} <= proof["folders"].keys()
    scanned = proof["folders"]["behavior_events"]
    files = [path for path in (erased / "behavior_events").rglob("*") if path.is_file()]
    assert (scanned["files"], scanned["bytes"]) == (len(files), sum(path.stat().st_size for path in files))
    counts = newest(erased, "erase_users")
    assert (counts["ids"], counts["known"], counts["unknown"], counts["hits"]) == (2, 1, 1, 0)
    gone = [row for row in rows_of(str(before), "behavior_events") if row["user_id"] == GONE]
    assert counts["behavior_events_removed"] == len(gone) and counts["companions_hidden"] == len(PUBLISHED)


def test_readers_see_the_tables_as_they_are_now(erased):
    versions = published_versions(str(erased))
    assert {name: version_of(str(erased), name) for name in versions if name != "pipeline_runs"} == {
        name: version for name, version in versions.items() if name != "pipeline_runs"
    }
    assert {"erased_users", *STATES} <= versions.keys()


# ---- nothing brings the user back


@pytest.mark.slow
def test_a_night_with_old_and_new_records_brings_nobody_back(spark, logs, copied, config, never_there):
    call(spark, run_night, copied, config, "--logs", logs, "--date", NEXT)
    assert files_with(copied, GONE) == []
    counts = newest(copied, "ingest_events")
    fates = ("stored", "quarantined", "duplicate", "erased")
    lines = 2 * len(lines_of(NEXT))
    assert counts["read"] == sum(counts[fate] for fate in fates) == lines
    own = [line for line in lines_of(NEXT) + lines_of(LAST) if f'"user_id": "{GONE}"' in line]
    # The torn line has a user that nobody can read: it is kept without its content.
    assert counts["erased"] == len(own) - 2
    assert hashes(copied) == hashes(never_there)
    with pytest.raises(JobError, match="users were erased since"):
        call(spark, publish_run, copied, config, "--undo", NEXT)
        call(spark, publish_run, copied, config, "--undo", LAST)


@pytest.mark.slow
def test_days_run_again_change_nothing(spark, logs, copied, config, erased):
    call(spark, run_night, copied, config, "--logs", logs, "--date", LAST)
    span = ["--start", FIRST, "--end", LAST]
    call(spark, backfill_profiles, copied, config, "--logs", logs, *span)
    call(spark, maintain_tables, copied, config, "--date", LAST)
    assert files_with(copied, GONE) == []
    assert hashes(copied) == hashes(erased)
    events = [sorted(map(repr, rows_of(str(w), "behavior_events"))) for w in (copied, erased)]
    assert events[0] == events[1]


@pytest.mark.slow
def test_a_rebuild_and_a_rollback_bring_nobody_back(spark, copied, config, erased, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(SETTINGS.replace("> 1", "> 0"), encoding="utf-8")
    call(spark, backfill_profiles, copied, str(other), "--rebuild")
    assert files_with(copied, GONE) == []
    call(spark, publish_run, copied, config, "--undo", LAST)
    assert published_versions(str(copied)) == published_versions(str(erased))
    with pytest.raises(JobError, match=f"{LAST} can't be undone: users were erased since"):
        call(spark, publish_run, copied, config, "--undo", LAST)


# ---- stopped, refused, tried


def stop_at(monkeypatch, call_number: int) -> None:
    """Lets the job die before its n-th change of a table or of what readers see."""
    calls = 0

    def dying(real):
        def step(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == call_number:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return step

    for name in ("delete", "update", "insert_absent", "set_properties"):
        monkeypatch.setattr(Writer, name, dying(getattr(Writer, name)))
    for name in ("publish_erasure", "remove_unused", "prove"):
        monkeypatch.setattr(erase_users, name, dying(getattr(erase_users, name)))


# The salt, the list, events, companions, quarantine, items, vectors, states, profiles, three for the run
# records, the list again, the publication, then files of the tables, and the proof.
POINTS = (*range(1, 15), 18, 23)


@pytest.mark.slow
@pytest.mark.parametrize("at", POINTS)
def test_an_erasure_that_was_stopped_is_finished_by_the_same_command(
    spark, logs, before, erased, config, ids, tmp_path, at
):
    warehouse = shutil.copytree(before, tmp_path / "w")
    seen = [hash_of(before, "user_profiles"), hash_of(erased, "user_profiles")]
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_at(patched, at)
        call(spark, erase_users, warehouse, config, "--ids", ids, "--date", LAST)
    version = published_versions(str(warehouse))["user_profiles"]
    assert canonical_hash(rows_of(str(warehouse), "user_profiles", version), STATE_COLUMNS) in seen
    if (warehouse / "erased_users").exists() and not all(
        row["rows_gone"] for row in rows_of(str(warehouse), "erased_users")
    ):
        with pytest.raises(JobError, match="erase_users stopped before 2 users were gone"):
            call(spark, run_night, warehouse, config, "--logs", logs, "--date", NEXT)
        with pytest.raises(JobError, match="erase_users stopped before 2 users were gone"):
            call(spark, publish_run, warehouse, config, "--date", LAST)
        with pytest.raises(JobError, match="erase_users stopped before 2 users were gone"):
            call(spark, publish_run, warehouse, config, "--undo", LAST)
    call(spark, erase_users, warehouse, config, "--ids", ids, "--date", LAST)
    assert files_with(warehouse, GONE) == [] and hashes(warehouse) == hashes(erased)


@pytest.mark.slow
def test_a_file_of_somebody_else_in_the_warehouse_is_named(spark, copied, config, ids):
    (copied / "export").mkdir()
    (copied / "export" / "people.csv").write_text(f"id,name\n{GONE},Anne\n", encoding="utf-8")
    with pytest.raises(JobError, match=r"export/people\.csv still holds an erased id"):
        call(spark, erase_users, copied, config, "--ids", ids, "--date", LAST)
    (copied / "export" / "people.csv").unlink()
    call(spark, erase_users, copied, config, "--ids", ids, "--date", LAST)


def test_a_dry_run_counts_the_same_and_writes_nothing(spark, before, erased, config, ids, capfd):
    there = content(before)
    call(spark, erase_users, before, config, "--ids", ids, "--date", LAST, "--dry-run")
    assert content(before) == there
    out, counts = capfd.readouterr().out, newest(erased, "erase_users")
    assert GONE not in out and "nothing was changed" in out
    told = [f"{counts[n]} {n.replace('_', ' ')}" for n in counts if n.removesuffix("_removed") in TABLES]
    assert [part for part in told if not part.startswith("0 ") and part not in out] == [] != told


def test_unfinished_days_come_first(spark, logs, before, config, ids, tmp_path):
    warehouse = shutil.copytree(before, tmp_path / "w")
    call(spark, publish_run, warehouse, config, "--undo", LAST)
    with pytest.raises(JobError, match=f"{LAST} was folded and is not published"):
        call(spark, erase_users, warehouse, config, "--ids", ids, "--date", LAST)
    assert not (warehouse / "erased_users").exists()
