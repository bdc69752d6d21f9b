"""One writer at a time for a warehouse.

The holder is known by name, a dead one is replaced, a second one is refused.

In a local folder this is the operating system's file lock, which ends with its process. Elsewhere the lease
is a log of numbered files, written the way Delta writes its own log: a number can be taken once, the highest
one holds, and the next number replaces a holder whose heartbeat stopped. On plain S3, where Delta itself
needs a log store to keep two drivers apart, a token in the file tells whose write came last. Delta's own
conflict check remains underneath: of two conflicting commits it lets one through.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, Protocol

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.io.messages import JobError, say
from jobs.io.storage import hadoop_conf, hadoop_path, jvm, located

FOLDER: Final = "_lease"
BEAT_SECONDS: Final = 20.0
# A card not older than this, by the clocks of the machines, is a living holder's.
DEAD_AFTER_SECONDS: Final = 300.0
# The clocks may be wrong: before the holder of any other card counts as dead, its heartbeat is awaited for
# this long, by a clock that nobody sets, with as many looks.
WATCHED_SECONDS: Final = 3 * BEAT_SECONDS
WATCH_LOOKS: Final = 12
# On storage without conditional writes another machine's late write has landed after this time.
SETTLE_SECONDS: Final = 2.0
# Old cards are kept for a while, to answer who wrote when.
KEPT_NUMBERS: Final = 100


class Lease(Protocol):
    """The right to write a warehouse."""

    def confirm(self) -> None:
        """Raises JobError where another process has taken the lease."""
        ...

    def release(self) -> None:
        """Lets others take the lease."""
        ...


def take(spark: SparkSession, warehouse: str, owner: str) -> Lease:
    """The lease on a warehouse under the owner's name. Raises JobError where another process holds it."""
    return take_numbered(spark, warehouse, owner) if "://" in warehouse else take_folder(warehouse, owner)


def _card(owner: str, **more: object) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"owner": owner, "host": socket.gethostname(), "pid": os.getpid(), "since": now} | more)


def _read_card(text: str) -> dict[str, Any]:
    """A holder's card; empty where it is not written yet."""
    try:
        return dict(json.loads(text))
    except ValueError:
        return {}


def _refusal(warehouse: str, card: dict[str, Any]) -> JobError:
    who = "another job"
    if card:
        who = f"{card['owner']} (process {card['pid']} on {card['host']}, since {card['since']})"
    return JobError(f"{warehouse} is being written by {who}; wait until it has ended, or end it")


# ---- a local folder


@dataclass
class FolderLease:
    """The operating system's lock on a file in the warehouse's folder."""

    warehouse: str
    file: IO[str]

    def confirm(self) -> None:
        """Raises JobError where the lock was released, or its file removed or replaced."""
        if self.file.closed:
            raise JobError(f"the lease on {self.warehouse} is released; nothing more may be written")
        try:
            there = Path(self.file.name).stat().st_ino
        except FileNotFoundError:
            there = None
        if there != os.fstat(self.file.fileno()).st_ino:
            raise JobError(
                f"the lease on {self.warehouse} was taken away while the job ran; it writes nothing more"
            )

    def release(self) -> None:
        """Unlocks the file."""
        self.file.truncate(0)
        self.file.close()


def take_folder(warehouse: str, owner: str) -> FolderLease:
    """The lock on a local folder. Raises JobError where another process holds it."""
    folder = Path(warehouse) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "holder.json").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        card = _read_card(file.read())
        file.close()
        raise _refusal(warehouse, card) from None
    file.truncate(0)
    file.write(_card(owner))
    file.flush()
    return FolderLease(warehouse, file)


# ---- any other storage


@dataclass
class NumberedLease:
    """A number in the lease's log, kept alive by a heartbeat."""

    spark: SparkSession
    warehouse: str
    owner: str
    number: int
    is_lost: bool = False
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    _ended: threading.Event = field(default_factory=threading.Event)
    _heartbeat: threading.Thread | None = None

    def confirm(self) -> None:
        """Raises JobError where a higher number, or another token, holds the warehouse."""
        if not self._is_own():
            card = _card_of(self.spark, self.warehouse, _highest(self.spark, self.warehouse))
            raise JobError(f"{self.owner} has lost its lease, and {_refusal(self.warehouse, card)}")

    def release(self) -> None:
        """Stops the heartbeat and marks the number as released."""
        self._ended.set()
        if self._heartbeat is not None:
            self._heartbeat.join()
        if self._is_own():
            self._write(released=True)

    def start_beating(self) -> None:
        """Starts the heartbeat in a thread of its own."""
        self._heartbeat = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._heartbeat.start()

    def _beat(self) -> None:
        """Refreshes the card until the lease is released or lost."""
        while not self._ended.wait(BEAT_SECONDS) and not self.is_lost:
            # A storage error is retried at the next beat; if they last, the lease expires by itself.
            with suppress(Exception):
                if self._is_own():
                    self._write(released=False)

    def _is_own(self) -> bool:
        number = _highest(self.spark, self.warehouse)
        token = _card_of(self.spark, self.warehouse, number).get("token", self.token)
        if number != self.number or token != self.token:
            self.is_lost = True
        return not self.is_lost

    def _write(self, released: bool) -> None:
        card = _card(self.owner, released=released, token=self.token)
        _write_card(self.spark, self.warehouse, self.number, card, overwrite=True)


def take_numbered(spark: SparkSession, warehouse: str, owner: str) -> NumberedLease:
    """The next number in the lease's log. Raises JobError where a living holder has the last one."""
    folder, fs = located(spark, f"{warehouse}/{FOLDER}")
    fs.mkdirs(folder)
    number = _highest(spark, warehouse)
    card = _card_of(spark, warehouse, number) if number else {}
    if card and not card["released"] and (_is_fresh(card) or _beats(spark, warehouse, number, card)):
        raise _refusal(warehouse, card)
    lease = NumberedLease(spark, warehouse, owner, number + 1)
    try:
        new = _card(owner, released=False, token=lease.token)
        _write_card(spark, warehouse, lease.number, new, overwrite=False)
    except Py4JJavaError as error:
        if "FileAlreadyExistsException" not in str(error.java_exception):
            raise
        raise _refusal(warehouse, _card_of(spark, warehouse, lease.number)) from None
    time.sleep(SETTLE_SECONDS)
    lease.confirm()
    fs.delete(_path(spark, warehouse, lease.number - KEPT_NUMBERS), False)
    lease.start_beating()
    return lease


def _is_fresh(card: dict[str, Any]) -> bool:
    """Whether the card was written in these minutes, by the clocks of both machines."""
    age = (datetime.now(UTC) - datetime.fromisoformat(card["since"])).total_seconds()
    return abs(age) < DEAD_AFTER_SECONDS


def _beats(spark: SparkSession, warehouse: str, number: int, card: dict[str, Any]) -> bool:
    """Whether the card is written again while it is watched, or the next number is taken."""
    say(f"the lease on {warehouse} looks abandoned; watching it for {WATCHED_SECONDS:.0f} s")
    until = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < until:
        time.sleep(WATCHED_SECONDS / WATCH_LOOKS)
        if _highest(spark, warehouse) != number or _card_of(spark, warehouse, number) not in ({}, card):
            return True
    return False


def _highest(spark: SparkSession, warehouse: str) -> int:
    """The highest number in the log, 0 where there is none."""
    folder, fs = located(spark, f"{warehouse}/{FOLDER}")
    names = [status.getPath().getName() for status in fs.listStatus(folder)]
    return max((int(n[:8]) for n in names if n[:8].isdigit() and n.endswith(".json")), default=0)


def _card_of(spark: SparkSession, warehouse: str, number: int) -> dict[str, Any]:
    lines = _store(spark, warehouse).read(_path(spark, warehouse, number), hadoop_conf(spark))
    return _read_card(lines.mkString())


def _write_card(spark: SparkSession, warehouse: str, number: int, card: str, overwrite: bool) -> None:
    java = jvm(spark)
    lines = java.java.util.ArrayList()
    lines.add(card)
    iterator = java.scala.jdk.javaapi.CollectionConverters.asScala(lines.iterator())
    path = _path(spark, warehouse, number)
    _store(spark, warehouse).write(path, iterator, overwrite, hadoop_conf(spark))


def _store(spark: SparkSession, warehouse: str) -> Any:
    """Delta's log store: its way to create a file of this storage exactly once."""
    log = jvm(spark).org.apache.spark.sql.delta.DeltaLog
    return log.forTable(spark._jsparkSession, f"{warehouse}/{FOLDER}").store()


def _path(spark: SparkSession, warehouse: str, number: int) -> Any:
    return hadoop_path(spark, f"{warehouse}/{FOLDER}/{number:08}.json")
