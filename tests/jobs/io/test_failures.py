"""What stops a job from outside is one sentence that names the file and what to do, never Java's pages."""

import errno
import logging
import os

import pytest
from py4j import java_gateway
from py4j.protocol import Py4JNetworkError
from pyspark import accumulators
from pyspark.errors import PySparkRuntimeError

from jobs.io.failures import (
    JAVA_ENDED,
    NO_HEAP,
    NO_JAVA,
    NO_LIBRARY,
    NO_SPACE,
    NO_WORKER,
    RESTORE,
    failure_sentence,
    hush_lost_connections,
    java_sentence,
)
from jobs.io.messages import JobError

SPARK = "org.apache.spark.SparkException: "
READING = "Encountered error while reading file file:///w/items/dt=1/part%20one.parquet"
GIVE = "give this user the right to read and write it, and run it again"
LOG = "file:/w/items/_delta_log"
# What Java says, from the outermost cause to the last, and what becomes of it.
SAID = {
    "a data file that is gone": (
        [
            f"{SPARK}[FAILED_READ_FILE.FILE_NOT_EXIST] {READING}. File does not exist. It may\nbe old.",
            "java.io.FileNotFoundException: File file:///w/items/dt=1/part%20one.parquet does not exist",
        ],
        f"/w/items/dt=1/part one.parquet is missing: {RESTORE}",
    ),
    "a flipped bit": (
        [
            f"{SPARK}[FAILED_READ_FILE.NO_HINT] {READING}.  SQLSTATE: KD001",
            "org.apache.hadoop.fs.ChecksumException: Checksum error: file:/w/x at 3072 exp: 18 got: 41",
        ],
        f"/w/items/dt=1/part one.parquet is damaged: {RESTORE}",
    ),
    "a commit that was cut off": (
        [f"{SPARK}[FAILED_READ_FILE.NO_HINT] Encountered error while reading file {LOG}/01.json.  SQLSTATE"],
        f"/w/items/_delta_log/01.json is damaged: {RESTORE}",
    ),
    "a damaged checkpoint": (
        [f"java.lang.RuntimeException: {LOG}/02.checkpoint.parquet is not a Parquet file. Expected magic"],
        f"/w/items/_delta_log/02.checkpoint.parquet is damaged: {RESTORE}",
    ),
    "a gap in a log": (
        [f"DeltaIllegalStateException: [DELTA_VERSIONS_NOT_CONTIGUOUS] Versions (0, 2) at {LOG}: x"],
        f"the log of /w/items has a gap: {RESTORE}",
    ),
    "a full disk": (
        [f"{SPARK}Job aborted due to stage failure", "java.io.IOException: No space left on device"],
        NO_SPACE,
    ),
    "a full quota": (["java.io.IOException: Disk quota exceeded"], NO_SPACE),
    "a limit on files": (["java.io.IOException: File too large"], NO_SPACE),
    "a closed folder": (
        ["java.io.FileNotFoundException: /w/a b/c.parquet (Permission denied)"],
        f"/w/a b/c.parquet: permission denied; {GIVE}",
    ),
    "a closed folder, as Java's newer files say it": (
        ["java.nio.file.AccessDeniedException: /w/items"],
        f"/w/items: permission denied; {GIVE}",
    ),
    "a disk that is not to be written": (
        ["java.nio.file.FileSystemException: /w/items/x: Read-only file system"],
        f"/w/items/x: read-only file system; {GIVE}",
    ),
    "no memory": ([f"{SPARK}failed", "java.lang.OutOfMemoryError: Java heap space"], NO_HEAP),
    "a scratch folder that runs nothing": (
        [f"{SPARK}failed", "java.lang.UnsatisfiedLinkError: no snappyjava in java.library.path"],
        NO_LIBRARY,
    ),
    "a killed worker": ([f"{SPARK}Python worker exited unexpectedly (crashed)", "EOF"], NO_WORKER),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_what_java_says_becomes_a_sentence(name):
    messages, sentence = SAID[name]
    assert java_sentence(messages) == sentence and "\n" not in sentence


def test_a_mistake_of_the_code_keeps_its_trace():
    assert java_sentence(["java.lang.NullPointerException: null"]) is None
    assert java_sentence([]) is None
    for error in (ValueError("mine"), FileNotFoundError(errno.ENOENT, "No such file", "mine")):
        assert failure_sentence(error) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_python_s_own_writes_meet_a_full_disk_too(number):
    assert failure_sentence(OSError(number, os.strerror(number))) == NO_SPACE


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_python_s_own_writes_meet_a_closed_folder_too(number):
    told = failure_sentence(OSError(number, os.strerror(number), "/w/_lease"))
    assert told is not None and told.startswith(f"/w/_lease: {os.strerror(number).lower()}; give this user")


def test_a_path_through_a_file_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as raised:
        (tmp_path / "file" / "w" / "_lease").mkdir(parents=True)
    assert failure_sentence(raised.value) == f"{tmp_path}/file/w/_lease: not a directory; correct the path"


def test_a_reader_that_has_seen_enough_is_no_end_of_java():
    assert failure_sentence(BrokenPipeError(errno.EPIPE, "Broken pipe")) is None


def test_java_s_end_and_its_absence_are_told():
    assert failure_sentence(Py4JNetworkError("Answer from Java side is empty")) == JAVA_ENDED
    assert failure_sentence(ConnectionRefusedError(errno.ECONNREFUSED, "refused")) == JAVA_ENDED
    missing = PySparkRuntimeError(errorClass="JAVA_GATEWAY_EXITED", messageParameters={})
    assert failure_sentence(missing) == NO_JAVA


def test_a_sentence_of_the_job_s_own_stays():
    assert failure_sentence(JobError("do that")) == "do that"


def logged_by(module: str, capsys) -> str:
    """What a module's error on Python's root logger prints."""
    exec(compile("import logging; logging.error('lost')", module, "exec"), {})
    return capsys.readouterr().err


def test_connections_that_java_left_are_told_by_the_failure_alone(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    hush_lost_connections()
    assert not logged_by(java_gateway.__file__, capsys)
    assert "lost" in logged_by("other.py", capsys)
    server = accumulators.AccumulatorTCPServer.__new__(accumulators.AccumulatorTCPServer)
    for error, told in ((EOFError(), False), (ConnectionResetError(), False), (ValueError("mistake"), True)):
        try:
            raise error
        except Exception:
            server.handle_error(None, ("127.0.0.1", 1))
        assert ("mistake" in capsys.readouterr().err) == told
