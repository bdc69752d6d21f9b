"""What is synced before readers are told of it: every file of the commits, and the folders that name them."""

import json
import os
from pathlib import Path

import pytest

from jobs.io import disk
from jobs.io.disk import commit_files, sync, sync_tables


def commit(table: Path, version: int, *added: str) -> None:
    """Writes a commit that adds these data files, each with its checksum."""
    log = table / "_delta_log"
    log.mkdir(parents=True, exist_ok=True)
    lines = [
        {"commitInfo": {}},
        *({"add": {"path": path}} for path in added),
        {"remove": {"path": "gone.parquet"}},
    ]
    (log / f"{version:020}.json").write_text("\n".join(map(json.dumps, lines)))
    (log / f".{version:020}.json.crc").touch()
    for path in added:
        file = table / path.replace("%20", " ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        file.with_name(f".{file.name}.crc").touch()


@pytest.fixture
def synced(monkeypatch):
    """The paths that were synced, in order."""
    paths = []
    monkeypatch.setattr(os, "fsync", lambda handle: paths.append(Path(f"/proc/self/fd/{handle}").readlink()))
    return paths


@pytest.fixture
def warehouse(tmp_path):
    table = tmp_path / "w" / "items"
    for version in range(3):
        commit(table, version, f"day={version}/a%20b.parquet")
    (table / "_delta_log" / f"{2:020}.checkpoint.parquet").touch()
    (table / "_delta_log" / "_last_checkpoint").touch()
    return tmp_path / "w"


def test_a_commit_s_files_are_its_own_and_what_it_adds(warehouse):
    table = warehouse / "items"
    assert {file.relative_to(table).as_posix() for file in commit_files(table, 2) if file.exists()} == {
        f"_delta_log/{2:020}.json",
        f"_delta_log/.{2:020}.json.crc",
        f"_delta_log/{2:020}.checkpoint.parquet",
        "_delta_log/_last_checkpoint",
        "day=2/a b.parquet",
        "day=2/.a b.parquet.crc",
    }
    assert [*commit_files(table, 9)] == []


def test_what_is_new_is_synced_and_then_every_folder_from_the_inside_out(warehouse, synced, monkeypatch):
    monkeypatch.setattr(disk, "SYNCS_AT_ONCE", 1)
    sync_tables(str(warehouse), {"items": 2}, since={"items": 0})
    names = [path.relative_to(warehouse).as_posix() for path in synced]
    assert sum((warehouse / name).is_file() for name in names) == 10
    assert not [name for name in names if "day=0" in name or f"{0:020}" in name]
    assert sorted(names[10:]) == [".", "items", "items/_delta_log", "items/day=1", "items/day=2"]
    assert names[-2:] == ["items", "."]
    synced.clear()
    sync_tables(str(warehouse), {"items": 2}, since={"items": 2})
    assert synced == []


def test_other_storage_has_nothing_to_sync(warehouse, synced):
    sync_tables(f"file://{warehouse}", {"items": 2}, {})
    assert synced == []


def test_a_file_that_is_gone_is_passed_over(tmp_path, synced):
    sync(tmp_path / "gone")
    sync(tmp_path)
    assert synced == [tmp_path]
