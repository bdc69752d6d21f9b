"""A file that changes while it is read, in whatever way, refuses its day, and nothing of it is stored."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import import_dataset, ingest_events
from jobs.ingest import days as ingest
from jobs.ingest.torn import require_same, unchanged
from jobs.io.messages import JobError
from schemas import behavior_events, items, quarantined_events
from tests.e2e.tables import call
from tests.jobs.ingest.days import FIRST, canonical, deliver, event

NAMES = st.dictionaries(st.sampled_from("abcd"), st.none() | st.tuples(st.integers(0, 2)))


@given(NAMES)
def test_what_stays_the_same_is_accepted(marks):
    there = {name: mark for name, mark in marks.items() if mark is not None}
    require_same(there, dict(there))


@given(NAMES, NAMES)
def test_every_difference_is_refused_by_name(before, after):
    before = {name: mark for name, mark in before.items() if mark is not None}
    differing = [
        name for name in before.keys() | after.keys() if before.get(name, "none") != after.get(name, "none")
    ]
    if not differing:
        return
    with pytest.raises(JobError, match=f"^{min(differing)} .* while .* read; nothing was stored"):
        require_same(before, after)


def test_an_error_due_to_a_change_is_told_as_the_change():
    marks = [{"a": (1,)}, {}]
    told = pytest.raises(JobError, match="a was removed or renamed while it was read")
    with told, unchanged(lambda: marks.pop(0)):
        raise JobError("a can't be read to its end")


def test_an_error_without_a_change_stays_as_it_is():
    with pytest.raises(ValueError, match="mine"), unchanged(lambda: {"a": (1,)}):
        raise ValueError("mine")


# ---- each way in which a file may change, in the middle of each reader


def replace_by_same_size(file: Path) -> None:
    """As `mv` does, with the size and the times of what it replaces."""
    found, other = file.stat(), file.with_name("_other")
    other.write_bytes(file.read_bytes().replace(b"anneliese", b"bernadett"))
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(file)
    assert file.stat().st_size == found.st_size and file.stat().st_mtime_ns == found.st_mtime_ns


def overwrite_in_place(file: Path) -> None:
    found = file.stat()
    file.write_bytes(file.read_bytes().replace(b"anneliese", b"bernadett"))
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


def append(file: Path) -> None:
    with file.open("ab") as end:
        end.write(b'{"user_id": "late"}\n')


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


CHANGES = {
    "replaced by one of the same size and time": (replace_by_same_size, "changed"),
    "overwritten in place, its time set back": (overwrite_in_place, "changed"),
    "appended to": (append, "changed"),
    "truncated": (truncate, "changed"),
    "rotated": (lambda file: file.rename(file.with_name("_a.jsonl.1")), "was removed or renamed"),
    "removed": (lambda file: file.unlink(), "was removed or renamed"),
    "joined by another": (lambda file: file.with_name("b.jsonl").write_bytes(b""), "arrived"),
}


@pytest.fixture
def during_read(monkeypatch):
    """Does something once, when an ingest has begun to read its records."""

    def plan(change):
        decide = ingest.decide_fates

        def changing(*given):
            change()
            return decide(*given)

        monkeypatch.setattr(ingest, "decide_fates", changing)

    return plan


def mapping_with_items():
    columns = {"item_id": "string", "title": "string"}
    catalogue = {"source": {"format": "json", "columns": columns}, "fields": {name: name for name in columns}}
    return canonical(items=catalogue)


def stored(folder, warehouse_at):
    warehouse = warehouse_at(folder)
    tables = (behavior_events.TABLE, items.TABLE, quarantined_events.TABLE)
    return [table.name for table in tables if warehouse.exists(table)]


# What happens to a file is told by one function: one change of catalogues shows that they are watched, too.
CASES = [pytest.param(way, "events", id=f"{way}-events") for way in CHANGES] + [
    pytest.param(way, "catalogue", id=f"{way}-catalogue", marks=[pytest.mark.slow] * (way != "appended to"))
    for way in CHANGES
]


@pytest.mark.parametrize(("way", "where"), CASES)
def test_a_day_that_changes_while_it_is_read_is_refused(
    way, where, ingest_in, during_read, warehouse_at, tmp_path
):
    change, told = CHANGES[way]
    catalogue = tmp_path / "logs" / "items" / f"dt={FIRST}" / "a.jsonl"
    catalogue.parent.mkdir(parents=True)
    catalogue.write_bytes(b'{"item_id": "S1", "title": "anneliese"}\n')
    file = catalogue if where == "catalogue" else tmp_path / "logs" / f"dt={FIRST}" / "a.jsonl"
    during_read(lambda: change(file))
    with pytest.raises(JobError, match=rf"{file.parent}/[ab]\.jsonl {told} while .*; nothing was stored"):
        ingest_in(tmp_path, FIRST, event(), mapping=mapping_with_items())
    assert stored(tmp_path / "w", warehouse_at) == []


def test_a_day_that_others_only_look_at_is_stored(ingest_in, during_read, tmp_path):
    file = tmp_path / "logs" / f"dt={FIRST}" / "a.jsonl"
    during_read(file.read_bytes)
    assert [row["user_id"] for row in ingest_in(tmp_path, FIRST, event())] == ["anneliese"]


@pytest.mark.parametrize("way", CHANGES)
def test_a_data_set_that_changes_while_it_is_split_leaves_no_logs(way, spark, monkeypatch, tmp_path):
    change, told = CHANGES[way]
    source = tmp_path / "source"
    deliver(source, FIRST, event())
    file = source / "logs" / f"dt={FIRST}" / "a.jsonl"
    write = import_dataset.write_rows

    def changing(*given):
        change(file)
        write(*given)

    monkeypatch.setattr(import_dataset, "write_rows", changing)
    argv = ["--mapping", "canonical", "--source", str(source), "--logs", str(tmp_path / "new")]
    with pytest.raises(JobError, match=rf"{file.parent}/[ab]\.jsonl {told} while"):
        import_dataset.run(spark, import_dataset.arg_parser().parse_args(argv))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_every_source_of_a_mapping_is_watched(spark, during_read, warehouse_at, tmp_path):
    source = {key: canonical()[key] for key in ("source", "fields")}
    deliver(tmp_path, FIRST, event())
    day = tmp_path / "logs" / f"dt={FIRST}"
    for name in ("web", "shop"):
        (day / name).mkdir()
        (day / name / "a.jsonl").write_bytes((day / "a.jsonl").read_bytes())
    (day / "a.jsonl").unlink()
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps({"sources": {"web": source, "shop": source}}), encoding="utf-8")
    during_read(lambda: append(day / "shop" / "a.jsonl"))
    config = tmp_path / "config.yaml"
    config.touch()
    arguments = ["--logs", tmp_path / "logs", "--date", FIRST, "--mapping", mapping]
    with pytest.raises(JobError, match=r"shop/a\.jsonl changed while it was read"):
        call(spark, ingest_events, tmp_path / "w", str(config), *arguments)
    assert stored(tmp_path / "w", warehouse_at) == []
