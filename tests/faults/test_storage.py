"""Damaged tables, a full disk and a closed folder end a job with one sentence that names the file."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from deltalake import DeltaTable

from jobs.io.cli import EXIT_FAILED, exit_code
from jobs.io.failures import NO_SPACE, RESTORE
from jobs.io.warehouse import Warehouse, open_writer
from schemas import items
from tests.builders import frame, row, store

TABLE = items.TABLE
ROWS = [row(TABLE, item_id=f"item {n}", title=f"a pot of tea, number {n * n}") for n in range(500)]


@pytest.fixture(scope="module")
def sound(spark, tmp_path_factory) -> Path:
    """A warehouse with a table of three commits with rows."""
    warehouse = tmp_path_factory.mktemp("sound")
    for _ in range(3):
        store(spark, str(warehouse), TABLE, ROWS)
    return warehouse


def log_file(folder: Path, version: int, end: str = "json") -> Path:
    return folder / "_delta_log" / f"{version:020}.{end}"


def data_file(folder: Path) -> Path:
    return min(folder.glob("part-*.parquet"))


def without_checksum(file: Path) -> Path:
    """The file, of which Hadoop keeps no checksum any more, as on an object store."""
    (file.parent / f".{file.name}.crc").unlink(missing_ok=True)
    return file


def flip(file: Path, at: int) -> Path:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)
    return file


def cut(file: Path) -> Path:
    os.truncate(without_checksum(file), file.stat().st_size // 2)
    return file


def gone(file: Path) -> Path:
    without_checksum(file).unlink()
    return file


def checkpoint(folder: Path) -> Path:
    """A checkpoint without the commits before it, so that it is needed."""
    DeltaTable(str(folder)).create_checkpoint()
    for version in range(3):
        gone(log_file(folder, version))
    return log_file(folder, 3, "checkpoint.parquet")


# Each damages a copy of the table and gives the file to be named; and the state that is told of it.
DAMAGE = {
    "a data file is gone": (lambda t: gone(data_file(t)), "missing"),
    "a data file is cut off": (lambda t: cut(data_file(t)), "damaged"),
    "a bit is flipped": (lambda t: flip(data_file(t), 300), "damaged"),
    "a bit is flipped, without a checksum of the file": (
        lambda t: flip(without_checksum(data_file(t)), 300),
        "damaged",
    ),
    "a commit is cut off": (lambda t: cut(log_file(t, 2)), "damaged"),
    "a commit is no JSON": (lambda t: flip(without_checksum(log_file(t, 2)), 0), "damaged"),
    "a checkpoint is cut off": (lambda t: cut(checkpoint(t)), "damaged"),
}


def read_all(spark, folder: Path) -> None:
    Warehouse(spark, str(folder)).read(TABLE).collect()


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_table_is_told_by_its_file(name, spark, sound, tmp_path, capsys):
    damage, state = DAMAGE[name]
    shutil.copytree(sound, tmp_path / "w b")
    file = damage(tmp_path / "w b" / TABLE.name)
    assert exit_code("reading", lambda: read_all(spark, tmp_path / "w b")) == EXIT_FAILED
    assert capsys.readouterr().err == f"reading: {file} is {state}: {RESTORE}\n"


def test_a_gap_in_a_log_is_told_by_its_table(spark, sound, tmp_path, capsys):
    shutil.copytree(sound, tmp_path / "w")
    gone(log_file(tmp_path / "w" / TABLE.name, 1))
    assert exit_code("reading", lambda: read_all(spark, tmp_path / "w")) == EXIT_FAILED
    error = capsys.readouterr().err
    assert "has a gap: " in error and error.endswith(f"{RESTORE}\n") and error.count("\n") == 1


def test_a_damaged_pointer_to_the_checkpoint_does_no_harm(spark, sound, tmp_path, capsys):
    shutil.copytree(sound, tmp_path / "w")
    checkpoint(tmp_path / "w" / TABLE.name)
    (tmp_path / "w" / TABLE.name / "_delta_log" / "_last_checkpoint").write_text(
        '{"version":', encoding="utf-8"
    )
    assert exit_code("reading", lambda: read_all(spark, tmp_path / "w")) == 0


# ---- the disk


@contextmanager
def mounted(*options: str):
    """A mount while the context lasts; its last option is the folder."""
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody mount")
    try:
        yield
    finally:
        subprocess.run(["umount", options[-1]], check=True)


def write_more(spark, folder: Path) -> None:
    with open_writer(Warehouse(spark, str(folder)), "a test") as writer:
        writer.append(TABLE, frame(spark, TABLE, ROWS))


def test_a_full_disk_is_told_and_what_was_there_is_read(spark, sound, tmp_path, capsys):
    folder = tmp_path / "small"
    folder.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)):
        shutil.copytree(sound, folder, dirs_exist_ok=True)
        (folder / "other").write_bytes(bytes(shutil.disk_usage(folder).free))
        with pytest.raises(OSError, match="space"):
            (folder / "more").write_bytes(bytes(1 << 16))
        assert exit_code("writing", lambda: write_more(spark, folder)) == EXIT_FAILED
        assert capsys.readouterr().err == f"writing: {NO_SPACE}\n"
        assert Warehouse(spark, str(folder)).read(TABLE).count() == 3 * len(ROWS)


def test_a_folder_that_can_not_be_written_is_told(spark, sound, tmp_path, capsys):
    folder = tmp_path / "closed"
    shutil.copytree(sound, folder)
    with mounted("--bind", str(folder), str(folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        assert exit_code("writing", lambda: write_more(spark, folder)) == EXIT_FAILED
    error = capsys.readouterr().err
    told = "read-only file system; give this user the right to read and write it, and run it again\n"
    assert error.startswith(f"writing: {folder}/") and error.endswith(told) and error.count("\n") == 1
