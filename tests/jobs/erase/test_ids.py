"""A file of ids is taken as it stands, or refused in one sentence that shows none of them."""

import argparse
import os

import pytest

from jobs.erase import ids
from jobs.erase.ids import ids_file


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("ann\nbob\n", ("ann", "bob")),
        ("\ufeffann\r\nbob", ("ann", "bob")),
        ("ann\n\n  \nann\n", ("ann",)),
        (" ann \nzoé d'Arc\n", (" ann ", "zoé d'Arc")),
        ("17850\n007\n", ("17850", "007")),
    ],
)
def test_each_line_is_an_id(tmp_path, content, found):
    (tmp_path / "ids").write_bytes(content.encode())
    assert ids_file(str(tmp_path / "ids")) == found


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "has no id; write one on each line"),
        (b"\n \r\n", "has no id"),
        (b"ann\nsecret\ttoo\n", "line 2: no id has control characters"),
        (b"ann\0", "line 1: no id has control characters"),
        (b"ann\xff\n", "can't be read: UnicodeDecodeError"),
        (b"secret-%d\n", "has more than 10,000 ids; split it"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_without_a_word_of_it(tmp_path, content, told):
    if b"%d" in content:
        content = b"".join(content % n for n in range(ids.MOST_IDS + 1))
    (tmp_path / "ids").write_bytes(content)
    with pytest.raises(argparse.ArgumentTypeError, match=told) as refused:
        ids_file(str(tmp_path / "ids"))
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(ids, "LARGEST_FILE", 8)
    (tmp_path / "ids").write_text("ann\nbob\nc\n", encoding="utf-8")
    with pytest.raises(argparse.ArgumentTypeError, match="can't be read: it is larger than"):
        ids_file(str(tmp_path / "ids"))


def test_a_device_or_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("/dev/zero", str(tmp_path / "pipe")):
        with pytest.raises(argparse.ArgumentTypeError, match="can't be read: it is no file"):
            ids_file(name)
    with pytest.raises(argparse.ArgumentTypeError, match="the path is empty"):
        ids_file("")


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(argparse.ArgumentTypeError, match="can't be read: "):
        ids_file(str(tmp_path / name))
