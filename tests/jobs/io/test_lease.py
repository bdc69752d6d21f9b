"""One writer at a time: a second one is refused by name, a dead one replaced, a replaced one stopped."""

import json
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.io import lease
from jobs.io.messages import JobError
from tests.conftest import ROOT

HOLDER = """
import sys
from jobs.io import lease
taken = lease.take_folder(sys.argv[1], "run_night of 2025-03-03")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(warehouse):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, warehouse],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_refused_by_name(holder, warehouse):
    with pytest.raises(JobError, match=rf"run_night of 2025-03-03 \(process {holder.pid} on "):
        lease.take_folder(warehouse, "run_night of 2025-03-04")


def test_a_dead_holder_is_replaced(holder, warehouse):
    holder.kill()
    holder.wait()
    lease.take_folder(warehouse, "run_night of 2025-03-04").release()


def test_a_released_folder_is_free_again(warehouse):
    lease.take_folder(warehouse, "first").release()
    taken = lease.take_folder(warehouse, "second")
    taken.confirm()
    taken.release()


def test_a_holder_that_lost_the_folder_is_stopped(warehouse):
    taken = lease.take_folder(warehouse, "first")
    (Path(warehouse) / lease.FOLDER / "holder.json").unlink()
    with pytest.raises(JobError, match="taken away"):
        taken.confirm()


# ---- any other storage that Delta writes to, where the operating system has no lock


@pytest.fixture
def storage(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(lease, "WATCHED_SECONDS", 0.05)
    return f"file://{tmp_path}/warehouse"


def card(storage, number):
    return Path(f"{storage.removeprefix('file://')}/{lease.FOLDER}/{number:08}.json")


def age(storage, number, seconds):
    """Backdates the card of the number, as if its holder had been silent for these seconds."""
    written = json.loads(card(storage, number).read_text())
    written["since"] = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
    card(storage, number).write_text(json.dumps(written))
    card(storage, number).with_name(f".{number:08}.json.crc").unlink(
        missing_ok=True
    )  # the local file system's checksum


def test_a_second_numbered_writer_is_refused_until_the_lease_is_free(spark, storage):
    first = lease.take_numbered(spark, storage, "first")
    with pytest.raises(JobError, match="is being written by first"):
        lease.take_numbered(spark, storage, "second")
    first.release()
    second = lease.take_numbered(spark, storage, "second")
    second.confirm()
    second.release()


@pytest.mark.parametrize("hours", [1, 24 * 365, -1, -25, -24 * 365])
def test_a_silent_holder_is_replaced_and_stops_whatever_the_clocks_say(spark, storage, hours):
    first = lease.take_numbered(spark, storage, "first")
    age(storage, first.number, hours * 3600)
    second = lease.take_numbered(spark, storage, "second")
    with pytest.raises(JobError, match=r"first has lost its lease, and .* is being written by second"):
        first.confirm()
    first.release()
    second.confirm()
    second.release()


@pytest.mark.parametrize("hours", [2, -2])
def test_a_holder_whose_clock_differs_is_heard_by_its_heartbeat(spark, storage, monkeypatch, hours):
    monkeypatch.setattr(lease, "WATCHED_SECONDS", 5.0)
    first = lease.take_numbered(spark, storage, "first")
    age(storage, first.number, hours * 3600)
    looks = []

    def beat(seconds):
        """In place of the wait: the holder writes its card once more, by its own clock."""
        looks.append(seconds)
        if len(looks) == 2:
            first._write(released=False)
            age(storage, first.number, hours * 3600 - 20)

    monkeypatch.setattr(lease.time, "sleep", beat)
    with pytest.raises(JobError, match="is being written by first"):
        lease.take_numbered(spark, storage, "second")
    first.confirm()
    first.release()


def test_of_two_that_replace_a_holder_one_gets_the_lease(spark, storage, monkeypatch):
    first = lease.take_numbered(spark, storage, "first")
    age(storage, first.number, lease.DEAD_AFTER_SECONDS + 1)
    with monkeypatch.context() as patched:
        # Both have read the old number before one of them writes the new one.
        patched.setattr(lease, "_highest", lambda *args: first.number)
        patched.setattr(lease.NumberedLease, "confirm", lambda self: None)
        second = lease.take_numbered(spark, storage, "second")
        with pytest.raises(JobError, match="is being written by second"):
            lease.take_numbered(spark, storage, "third")
    second.release()


def test_of_two_colliding_writes_the_last_one_holds(spark, storage):
    first = lease.take_numbered(spark, storage, "first")
    second = lease.NumberedLease(spark, storage, "second", first.number)
    second._write(released=False)  # as on storage without conditional writes
    with pytest.raises(JobError, match="first has lost its lease"):
        first.confirm()
    first.release()
    second.confirm()


def test_a_living_holder_refreshes_its_lease(spark, storage, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.05)
    with monkeypatch.context() as still:
        still.setattr(lease.NumberedLease, "start_beating", lambda _: None)
        first = lease.take_numbered(spark, storage, "first")
    # Before the first beat: two concurrent writers of a card would mix one's text with the other's checksum.
    age(storage, first.number, lease.DEAD_AFTER_SECONDS + 1)
    first.start_beating()

    def is_fresh() -> bool:
        # While it is written, the card is empty or missing.
        with suppress(FileNotFoundError, ValueError):
            return lease._is_fresh(json.loads(card(storage, first.number).read_text()))
        return False

    for _ in range(200):
        if is_fresh():
            break
        first._ended.wait(0.05)
    with pytest.raises(JobError, match="is being written by first"):
        lease.take_numbered(spark, storage, "second")
    first.release()
