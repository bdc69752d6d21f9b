"""Every entry of a folder is a data file, a marker, or the reason why its day stops."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.io import storage
from jobs.io.messages import JobError
from jobs.io.storage import data_files, every_file, file_marks, read_text, write_text


def test_all_names_are_listed_but_markers(spark, tmp_path):
    names = [
        "a.jsonl",
        "événements.jsonl",
        "région=Île/b.jsonl",
        "12:00:00.jsonl",
        "a b%20+c.jsonl",
        "日/本.jsonl",
    ]
    for name in [*names, "_SUCCESS", ".a.jsonl.crc", "_old/a.jsonl", ".hidden/a.jsonl", "x._COPYING_"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert data_files(spark, str(tmp_path)) == sorted(f"{tmp_path}/{name}" for name in names)
    assert data_files(spark, f"{tmp_path}/missing") == []


def test_a_link_inside_the_folder_and_the_folder_itself_may_be_links(spark, tmp_path):
    day = tmp_path / "day"
    (day / "more").mkdir(parents=True)
    (day / "more" / "a.jsonl").touch()
    (day / "b.jsonl").symlink_to("more/a.jsonl")
    (tmp_path / "link").symlink_to("day")
    assert data_files(spark, f"{tmp_path}/link") == [
        f"{tmp_path}/link/b.jsonl",
        f"{tmp_path}/link/more/a.jsonl",
    ]


ENTRIES = {
    "leads nowhere": lambda path: path.symlink_to("missing"),
    "leads out of its folder": lambda path: path.symlink_to("/etc/hostname"),
    "out of its folder: put": lambda path: path.symlink_to(path.parents[2] / "beside.jsonl"),
    "a link to a folder": lambda path: path.symlink_to(path.parent),
    "out of its folder": lambda path: path.symlink_to("/etc"),
    "neither a file nor a folder": os.mkfifo,
}


@pytest.mark.parametrize("problem", ENTRIES)
def test_an_entry_that_can_t_be_read_stops_the_day_by_name(spark, tmp_path, problem):
    (tmp_path / "beside.jsonl").touch()
    day = tmp_path / "dt=2025-04-01"
    (day / "below").mkdir(parents=True)
    (day / "a.jsonl").touch()
    ENTRIES[problem](day / "below" / "é.jsonl")
    with pytest.raises(JobError, match=rf"below/\\xe9.jsonl .*{problem}.*nothing of its day was stored"):
        data_files(spark, str(day))


def test_a_name_that_is_not_utf_8_stops_the_day(spark, tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl")).touch()
    with pytest.raises(JobError, match=r"caf.*is not UTF-8"):
        data_files(spark, str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["a.jsonl", "below"])
def test_a_file_without_permission_stops_the_day(spark, tmp_path, name):
    (tmp_path / "below").mkdir()
    (tmp_path / "a.jsonl").touch()
    (tmp_path / name).chmod(0)
    with pytest.raises(JobError, match=f"{name} can't be read: permission denied"):
        data_files(spark, str(tmp_path))


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_marks_tell_every_change_and_only_that(spark, tmp_path, scheme):
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b", "_SUCCESS"):
        (tmp_path / name).write_text("one", encoding="utf-8")
    before = file_marks(spark, scheme + str(tmp_path))
    assert sorted(file.rpartition("/")[2] for file in before) == ["a", "b"]
    (tmp_path / "_SUCCESS").write_text("two", encoding="utf-8")
    assert file_marks(spark, scheme + str(tmp_path)) == before
    (tmp_path / "sub" / "b").write_text("longer", encoding="utf-8")
    changed = file_marks(spark, scheme + str(tmp_path))
    (other,) = [file for file in before if changed[file] != before[file]]
    assert other.endswith("/sub/b")
    (tmp_path / "a").rename(tmp_path / "c")
    names = {file.rpartition("/")[2] for file in file_marks(spark, scheme + str(tmp_path))}
    assert names == {"b", "c"}
    assert file_marks(spark, f"{scheme}{tmp_path}/missing") == {}


class Status:
    """A file's status as an object store gives it."""

    def __init__(self, etag):
        self.etag = etag

    def getPath(self):
        return self

    def toString(self):
        return "s3a://logs/dt=2025-04-01/a.jsonl"

    def getLen(self):
        return 3

    def getModificationTime(self):
        return 7

    def getEtag(self):
        return self.etag


@pytest.mark.parametrize("has_etag", [True, False])
def test_an_etag_tells_files_of_one_size_and_time_apart(monkeypatch, has_etag):
    session = SimpleNamespace(sparkContext=SimpleNamespace(_gateway=None))
    monkeypatch.setattr(storage, "is_instance_of", lambda _gateway, _status, name: has_etag)
    marks = []
    for etag in ("one", "two"):
        monkeypatch.setattr(storage, "_remote_files", lambda _spark, _folder, etag=etag: iter([Status(etag)]))
        marks.append(storage.file_marks(session, "s3a://logs/dt=2025-04-01"))
    assert (marks[0] != marks[1]) == has_etag
    assert [*marks[0]] == ["s3a://logs/dt=2025-04-01/a.jsonl"]


def test_every_file_is_listed_hidden_ones_too(spark, tmp_path):
    names = ["a.parquet", ".a.parquet.crc", "_delta_log/0.json", "_delta_log/.0.json.tmp", "d=1/.hidden/x"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert every_file(spark, str(tmp_path)) == sorted(f"{tmp_path}/{name}" for name in names)
    assert every_file(spark, f"{tmp_path}/nowhere") == []
    # As on a file system that only Hadoop knows, which lists no checksums here.
    below = [file.removeprefix("file:") for file in every_file(spark, tmp_path.as_uri())]
    assert below == [file for file in every_file(spark, str(tmp_path)) if not file.endswith(".crc")]


def test_what_can_t_be_looked_into_is_no_folder_without_files(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name, target in (("table", "elsewhere"), ("file", "elsewhere/a"), ("nowhere", "missing")):
        (tmp_path / "w" / name).symlink_to(tmp_path / target)
        with pytest.raises(JobError, match=f"w/{name} is a link: put there what it leads to"):
            every_file(None, str(tmp_path / "w"))
        (tmp_path / "w" / name).unlink()
    Path(os.fsdecode(os.fsencode(tmp_path / "w") + b"/a\xff")).touch()
    with pytest.raises(JobError, match=r"a\\udcff has a name that is not UTF-8"):
        every_file(None, str(tmp_path / "w"))


def test_a_small_text_is_written_and_replaced(spark, tmp_path):
    for text in ("déjà vu\n", "once more"):
        write_text(spark, f"{tmp_path}/new/note.json", text)
        assert read_text(spark, f"{tmp_path}/new/note.json") == text
