"""What stops a job from outside, in a sentence: a full disk, a damaged file, no permission, Java's end.

It comes as an exception of Java with pages of causes, or as Python's OSError. What no sentence fits is a
mistake of the code, and keeps its stack trace.
"""

import errno
import logging
import re
import sys
from collections.abc import Iterator
from socketserver import BaseServer
from typing import Any, Final
from urllib.parse import unquote

from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark import accumulators
from pyspark.errors import PySparkException

from jobs.io.messages import LONGEST, JobError, worker_sentence
from jobs.io.storage import without_scheme

# Causes looked at; a longer chain is a circle.
DEEPEST: Final = 50
NO_SPACE: Final = (
    "there is no space left on a disk: free some where the warehouse or the scratch folder (TMPDIR, "
    "SPARK_LOCAL_DIRS) lies, and run the same command again"
)
JAVA_ENDED: Final = (
    "Java has ended, killed or out of memory: look for its reason, raise spark.driver_memory if that was it, "
    "and run the same command again"
)
NO_JAVA: Final = (
    "Java could not be started: install Java 17 or 21, or lower spark.driver_memory to what this machine has"
)
NO_HEAP: Final = "Java's memory is too small: raise spark.driver_memory, and run the same command again"
NO_LIBRARY: Final = (
    "Java can't load its libraries from the scratch folder (TMPDIR): make space there, mount it without "
    "noexec, and run the same command again"
)
NO_WORKER: Final = (
    "a Python worker has ended, killed or out of memory: look for its reason, and run the same command again"
)
RESTORE = "put it back from a copy of the warehouse, or backfill the logs into a new one"
# What calls of a Java that has ended raise.
_NO_ANSWER: Final = (Py4JNetworkError, ConnectionRefusedError, ConnectionResetError)
# Words of Java that say all there is to say.
_TELLING: Final = {
    "No space left on device": NO_SPACE,
    "Disk quota exceeded": NO_SPACE,
    "File too large": NO_SPACE,
    "java.lang.OutOfMemoryError": NO_HEAP,
    "java.lang.UnsatisfiedLinkError": NO_LIBRARY,
    "Python worker exited unexpectedly": NO_WORKER,
}
# A file is an address in Spark's messages, without blanks.
UNREAD: Final = re.compile(r"FAILED_READ_FILE\.(?P<kind>\w+)\].*? while reading file (?P<file>\S+?)\.?\s")
_DAMAGED: Final = re.compile(
    r"(?P<file>\w+:/[^\n]*?) is not a Parquet file|Checksum error: (?P<summed>\w+:/[^\n]*?) at \d|"
    r"can not read class org\.apache\.parquet|DELTA_(?:STATE_RECOVER_ERROR|INVALID_\w*LOG\w*)"
)
# Names of classes before what an exception says.
_CLASSES: Final = re.compile(r"^(?:(?:\w+\.)+[\w$]+: )+")
_GAP: Final = re.compile(
    r"DELTA_(?:VERSIONS_NOT_CONTIGUOUS|LOG_FILE_NOT_FOUND\w*|TRUNCATED_TRANSACTION_LOG|LOG_ALREADY\w*)"
)
_LOG: Final = re.compile(r"(?P<table>(?:\w+:)?/[^\n:]*?)/_delta_log\b")
_CLOSED: Final = re.compile(
    r"(?P<file>(?:file:)?/[^\n]*?)(?: \(|: )"
    r"(?P<reason>Permission denied|Read-only file system|Operation not permitted)|"
    r"AccessDeniedException: (?P<denied>[^\n]+)|Mkdirs failed to create (?P<folder>\S+)"
)


def failure_sentence(error: BaseException) -> str | None:
    """What a failure that needs no stack trace says; None for any other."""
    if isinstance(error, JobError):
        return str(error)
    if isinstance(error, PySparkException):
        if sentence := worker_sentence(error):
            return sentence
        if error.getCondition() == "JAVA_GATEWAY_EXITED":
            return NO_JAVA
    if isinstance(error, OSError) and not isinstance(error, _NO_ANSWER):
        return os_sentence(error)
    try:
        return java_sentence(list(java_messages(error)))
    except (Py4JError, OSError):
        return JAVA_ENDED


def os_sentence(error: OSError) -> str | None:
    """What a failed call of the operating system says; None where it is no state of the machine."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NO_SPACE
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and error.filename is not None:
        return _closed(str(error.filename), str(error.strerror))
    if error.errno in (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP) and error.filename is not None:
        return f"{error.filename}: {str(error.strerror).lower()}; correct the path"
    if error.errno == errno.EIO:
        return f"{error.filename or 'a file'} can't be read or written: the disk reports an error"
    return None


def _closed(place: str, reason: str) -> str:
    return f"{place}: {reason.lower()}; give this user the right to read and write it, and run it again"


def local_path(address: str) -> str:
    """A file as people name it: Hadoop and Spark give local ones as addresses.

    >>> local_path("file:///w/a%20b"), local_path("s3a://w/a")
    ('/w/a b', 's3a://w/a')
    """
    return unquote(without_scheme(address)) if address.startswith("file:") else address


def java_messages(error: BaseException) -> Iterator[str]:
    """Class and message of a Java exception and of each of its causes; nothing for an error of Python."""
    java: Any = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    if java is None and isinstance(error, _NO_ANSWER):
        raise Py4JNetworkError
    for _ in range(DEEPEST):
        if java is None:
            return
        yield f"{java.getClass().getName()}: {java.getMessage()}"
        java = java.getCause()


def deepest_cause(messages: list[str]) -> str:
    """What the last cause that says something says, in one line without names of classes.

    >>> deepest_cause(["a.b.SparkException: no", "java.io.IOException: a page is corrupt", "c.E: null"])
    'a page is corrupt'
    """
    for message in reversed(messages):
        said = _CLASSES.sub("", message).strip().split("\n")[0][:LONGEST]
        if said and said != "null":
            return said
    return ""


def java_sentence(messages: list[str]) -> str | None:
    """What Java's messages, from the outermost to the last cause, come down to; None for anything else."""
    text = "\n".join([*messages, ""])
    for words, sentence in _TELLING.items():
        if words in text:
            return sentence
    if found := _CLOSED.search(text):
        place = found["file"] or found["denied"] or found["folder"]
        return _closed(local_path(place), found["reason"] or "Permission denied")
    if found := UNREAD.search(text):
        state = "missing" if found["kind"] == "FILE_NOT_EXIST" else "damaged"
        return f"{local_path(found['file'])} is {state}: {RESTORE}"
    return _log_sentence(text)


def _log_sentence(text: str) -> str | None:
    """What is wrong with a table's log, which Delta reads itself."""
    table = local_path(found["table"]) if (found := _LOG.search(text)) else "a table"
    if _GAP.search(text):
        return f"the log of {table} has a gap: {RESTORE}"
    if found := _DAMAGED.search(text):
        file = found["file"] or found["summed"]
        return f"{local_path(file) if file else f'the log of {table}'} is damaged: {RESTORE}"
    return None


def hush_lost_connections() -> None:
    """Keeps the stack traces of connections that Java left when it was killed out of the output.

    Py4J logs them as Python's root logger, and PySpark's server of accumulators prints them; what the job
    fails with is told in a sentence.
    """
    logging.getLogger().addFilter(_is_not_of_py4j)
    for server in (accumulators.AccumulatorTCPServer, accumulators.AccumulatorUnixServer):
        server.handle_error = _handle_error  # type: ignore[method-assign,assignment]


def _is_not_of_py4j(record: logging.LogRecord) -> bool:
    return record.module not in ("java_gateway", "clientserver")


def _handle_error(server: BaseServer, request: Any, address: Any) -> None:
    if not isinstance(sys.exception(), OSError | EOFError):
        BaseServer.handle_error(server, request, address)
