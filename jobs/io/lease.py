"""One writer at a time for a warehouse: who holds it is known by name, a dead holder is taken over, a twin is refused.

In a local folder the operating system's lock says who holds it, and lets go of it when its process dies. Elsewhere the lease is
a log of numbered files, written the way Delta writes its own: a number can be taken once, the highest one holds, and a holder
whose heartbeat stopped is followed by the next number. On plain S3, where Delta itself needs a log store of its own to keep two
drivers apart, a token in the file tells whose write came last. Beneath the lease Delta still lets only one of two commits through.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, Protocol

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.io.messages import JobError

FOLDER: Final = "_lease"
BEAT_SECONDS: Final = 20.0
# A holder that was silent for so long is taken for dead; far above what a paused machine or a skewed clock explains.
DEAD_AFTER_SECONDS: Final = 300.0
# Where a file can be written over by another machine's late write, it has been by then.
SETTLE_SECONDS: Final = 2.0
# Old numbers are kept for a while, for a person who asks who wrote when.
KEPT_NUMBERS: Final = 100


class Lease(Protocol):
    """The right to write a warehouse."""

    def confirm(self) -> None:
        """Raises JobError where the lease is not ours any more."""
        ...

    def release(self) -> None: ...


_held: dict[str, Lease] = {}


@contextmanager
def held(spark: SparkSession, warehouse: str, owner: str) -> Iterator[None]:
    """Holds the warehouse's lease under the owner's name; a job inside a job shares its lease. Raises JobError where another holds it."""
    if warehouse in _held:
        yield
        return
    lease = take_folder(warehouse, owner) if _is_local(warehouse) else take_numbered(spark, warehouse, owner)
    _held[warehouse] = lease
    try:
        yield
    finally:
        del _held[warehouse]
        lease.release()


def confirm(warehouse: str) -> None:
    """To be called before each commit: raises JobError where the lease that this process took is not its own any more."""
    if warehouse in _held:
        _held[warehouse].confirm()


def _is_local(warehouse: str) -> bool:
    return "://" not in warehouse


def _card(owner: str, **more: object) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"owner": owner, "host": socket.gethostname(), "pid": os.getpid(), "since": now} | more)


def _refusal(warehouse: str, card: dict[str, Any]) -> JobError:
    who = (
        f"{card['owner']} (process {card['pid']} on {card['host']}, since {card['since']})"
        if card
        else "another job"
    )
    return JobError(f"{warehouse} is being written by {who}; wait until it has ended, or end it")


# ---- a local folder


@dataclass
class FolderLease:
    """The operating system's lock on a file of the warehouse's folder."""

    warehouse: str
    file: IO[str]

    def confirm(self) -> None:
        try:
            there = Path(self.file.name).stat().st_ino
        except FileNotFoundError:
            there = None
        if there != os.fstat(self.file.fileno()).st_ino:
            raise JobError(
                f"the lease on {self.warehouse} was taken away while the job ran; nothing more is written"
            )

    def release(self) -> None:
        self.file.truncate(0)
        self.file.close()


def take_folder(warehouse: str, owner: str) -> FolderLease:
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


def _read_card(text: str) -> dict[str, Any]:
    """Empty where the holder has not yet written it."""
    try:
        return dict(json.loads(text))
    except ValueError:
        return {}


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
    _beating: threading.Thread | None = None

    def confirm(self) -> None:
        if not self._is_own():
            card = _card_of(self.spark, self.warehouse, _highest(self.spark, self.warehouse))
            raise JobError(f"{self.owner} has lost its lease, and {_refusal(self.warehouse, card)}")

    def release(self) -> None:
        self._ended.set()
        if self._beating is not None:
            self._beating.join()
        if self._is_own():
            self._write(released=True)

    def start_beating(self) -> None:
        self._beating = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._beating.start()

    def _beat(self) -> None:
        """Says from time to time that the holder lives, until it lets go or finds itself replaced."""
        while not self._ended.wait(BEAT_SECONDS) and not self.is_lost:
            # A storage that fails once is asked again: silence for long enough ends the lease by itself.
            with suppress(Exception):
                if self._is_own():
                    self._write(released=False)

    def _is_own(self) -> bool:
        number = _highest(self.spark, self.warehouse)
        if (
            number != self.number
            or _card_of(self.spark, self.warehouse, number).get("token", self.token) != self.token
        ):
            self.is_lost = True
        return not self.is_lost

    def _write(self, released: bool) -> None:
        _store(self.spark, self.warehouse).write(
            _path(self.spark, self.warehouse, self.number),
            _lines(self.spark, _card(self.owner, released=released, token=self.token)),
            True,
            _conf(self.spark),
        )


def take_numbered(spark: SparkSession, warehouse: str, owner: str) -> NumberedLease:
    folder = _path(spark, warehouse, 0).getParent()
    folder.getFileSystem(_conf(spark)).mkdirs(folder)
    number = _highest(spark, warehouse)
    card = _card_of(spark, warehouse, number) if number else {}
    if card and not card["released"] and _age(card) < DEAD_AFTER_SECONDS:
        raise _refusal(warehouse, card)
    lease = NumberedLease(spark, warehouse, owner, number + 1)
    try:
        text = _lines(spark, _card(owner, released=False, token=lease.token))
        _store(spark, warehouse).write(_path(spark, warehouse, lease.number), text, False, _conf(spark))
    except Py4JJavaError as error:
        if "FileAlreadyExistsException" not in str(error.java_exception):
            raise
        raise _refusal(warehouse, _card_of(spark, warehouse, lease.number)) from None
    time.sleep(SETTLE_SECONDS)
    lease.confirm()
    old = _path(spark, warehouse, lease.number - KEPT_NUMBERS)
    old.getFileSystem(_conf(spark)).delete(old, False)
    lease.start_beating()
    return lease


def _age(card: dict[str, Any]) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(card["since"])).total_seconds()


def _highest(spark: SparkSession, warehouse: str) -> int:
    """The highest number of the log, 0 where there is none."""
    folder = _path(spark, warehouse, 0).getParent()
    names = [status.getPath().getName() for status in folder.getFileSystem(_conf(spark)).listStatus(folder)]
    return max((int(name[:8]) for name in names if name[:8].isdigit() and name.endswith(".json")), default=0)


def _card_of(spark: SparkSession, warehouse: str, number: int) -> dict[str, Any]:
    lines = _store(spark, warehouse).read(_path(spark, warehouse, number), _conf(spark))
    return _read_card(lines.mkString())


def _store(spark: SparkSession, warehouse: str) -> Any:
    """Delta's own way to write a file of this storage once and only once."""
    jvm: Any = spark._jvm
    return jvm.org.apache.spark.sql.delta.DeltaLog.forTable(
        spark._jsparkSession, f"{warehouse}/{FOLDER}"
    ).store()


def _path(spark: SparkSession, warehouse: str, number: int) -> Any:
    return spark._jvm.org.apache.hadoop.fs.Path(f"{warehouse}/{FOLDER}/{number:08}.json")  # type: ignore[union-attr]


def _conf(spark: SparkSession) -> Any:
    return spark.sparkContext._jsc.hadoopConfiguration()


def _lines(spark: SparkSession, text: str) -> Any:
    jvm: Any = spark._jvm
    lines = jvm.java.util.ArrayList()
    lines.add(text)
    return jvm.scala.jdk.javaapi.CollectionConverters.asScala(lines.iterator())
