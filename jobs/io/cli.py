"""What all command lines share: arguments, one sentence for a mistake, and the exit code."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from pyspark.sql import SparkSession

from jobs.io import faults
from jobs.io.failures import failure_sentence
from jobs.io.scratch import private_files
from jobs.io.session import open_session
from schemas.documents import LARGEST
from schemas.settings import Settings, SettingsError, parse_settings

EXIT_FAILED = 1
EXIT_BAD_ARGUMENTS = 2
EXIT_INTERRUPTED = 130
# How long Spark may take to cancel its jobs after Ctrl-C, seconds.
CANCEL_S = 5


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a mistake with one sentence."""

    def error(self, message: str) -> NoReturn:
        """Exits with the message in one sentence."""
        self.exit(EXIT_BAD_ARGUMENTS, f"{self.prog}: {message} (--help lists the arguments)\n")


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows only defaults a person would type."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        typed = isinstance(action.default, str | int | date) and not isinstance(action.default, bool)
        return super()._get_help_string(action) if typed else action.help


def warehouse_parser(job: str, description: str | None) -> Parser:
    """The parser of a command that reads a warehouse, and needs nothing else for that."""
    summary = (description or "").split("\n\n")[0]
    parser = Parser(prog=job, description=summary, formatter_class=Help)
    parser.add_argument(
        "--warehouse", required=True, type=folder_uri, help="folder or s3a:// address of the Delta tables"
    )
    return parser


def job_parser(job: str, description: str | None) -> Parser:
    """A job's parser with the arguments of every job on a warehouse."""
    parser = settings_parser(job, description)
    parser.add_argument(
        "--run-id",
        type=run_name,
        metavar="ID",
        help="names the run in pipeline_runs; default: job, date and time",
    )
    return parser


def settings_parser(job: str, description: str | None) -> Parser:
    """The parser of a command that reads a warehouse under settings, and is no run of it."""
    parser = warehouse_parser(job, description)
    parser.add_argument(
        "--config",
        type=settings_file,
        default=Settings(),
        metavar="FILE",
        help="YAML settings (docs/settings.yaml)",
    )
    return parser


def iso_day(text: str) -> date:
    """An argument's day, YYYY-MM-DD."""
    try:
        return date.fromisoformat(text) if len(text) == 10 else _no_day(text)
    except ValueError:
        return _no_day(text)


def _no_day(text: str) -> NoReturn:
    raise argparse.ArgumentTypeError(f"'{text}' is no date; write YYYY-MM-DD")


def folder_uri(text: str) -> str:
    """A folder that may not exist yet; absolute, so that executors see the same one.

    A file: address is decoded as RFC 8089 has it; anything else without :// is a path, taken literally.

    >>> folder_uri("file:/logs"), folder_uri("file://localhost/my%20logs"), folder_uri("s3a://bucket/logs/")
    ('/logs', '/my logs', 's3a://bucket/logs')
    """
    if text.lower().startswith("file:"):
        text = _path_of(text)
    elif "://" in text:
        return text.rstrip("/")
    path = Path(text).expanduser().resolve()
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is a file, not a folder")
    return str(path)


def _path_of(address: str) -> str:
    parts = urlsplit(address)
    if parts.netloc.lower() not in ("", "localhost"):
        raise argparse.ArgumentTypeError(
            f"'{address}' names the machine {parts.netloc}; a local folder is file:///folder"
        )
    if parts.query or parts.fragment or not parts.path.startswith("/"):
        raise argparse.ArgumentTypeError(
            f"'{address}' is no address of a folder; write file:///folder, and %3F for ? and %23 for #"
        )
    return unquote(parts.path)


def small_text(path: str) -> str:
    """The text of a settings or mapping file, which must be a small file of UTF-8.

    Raises ArgumentTypeError for anything else, and FileNotFoundError where there is nothing.
    """
    try:
        # A device or a pipe may have no end.
        if not Path(path).is_file() and Path(path).exists():
            raise argparse.ArgumentTypeError(f"{path} is no file")
        with Path(path).open("rb") as file:
            found = file.read(LARGEST + 1)
        if len(found) > LARGEST:
            raise argparse.ArgumentTypeError(f"{path} is larger than {LARGEST >> 20} MiB")
        return found.decode("utf-8-sig")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = found[: error.start].count(b"\n") + 1
        raise argparse.ArgumentTypeError(f"{path} is not UTF-8 on line {line}: save it as UTF-8") from None


def existing_folder(text: str) -> str:
    """A folder; a local one must exist (others are checked when they are read)."""
    uri = folder_uri(text)
    if "://" not in uri and not Path(uri).is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: {text}")
    return uri


def settings_file(text: str) -> Settings:
    """An argument's settings: a YAML file."""
    try:
        return parse_settings(small_text(text), text)
    except FileNotFoundError:
        raise argparse.ArgumentTypeError(f"no such file: {text}") from None
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run_name(text: str) -> str:
    """An argument's run id."""
    if not text or len(text) > 200 or not text.isprintable():
        raise argparse.ArgumentTypeError("a run id has 1 to 200 printable characters")
    return text


def run_main(
    parser: Parser,
    argv: Sequence[str] | None,
    body: Callable[[SparkSession, argparse.Namespace], None],
    check: Callable[[argparse.Namespace], str | None] = lambda _: None,
) -> int:
    """Parses and checks the arguments, opens the session, runs the body; returns the exit code.

    0, 1 (failed), 2 (bad arguments) or 130 (Ctrl-C).
    """
    args = parser.parse_args(argv)
    if problem := check(args):
        parser.error(problem)
    settings = args.config if "config" in args else Settings()
    secrets = [settings.engine.key_variable]

    def work() -> None:
        with open_session(parser.prog, settings.spark, secrets) as spark, interruptible(spark):
            body(spark, args)
            faults.reach("exit")

    return exit_code(parser.prog, work)


def exit_code(job: str, work: Callable[[], None]) -> int:
    """Does a job's work, and says in one sentence why it failed; returns 0, 1 (failed) or 130 (Ctrl-C)."""
    try:
        with private_files():
            work()
    except (Exception, KeyboardInterrupt) as error:
        if _is_interrupt(error):
            print(f"{job}: interrupted; the same command continues where it stopped", file=sys.stderr)
            return EXIT_INTERRUPTED
        if not (sentence := failure_sentence(error)):
            raise
        print(f"{job}: {sentence}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is Ctrl-C or what failed on the way out after it, as calls of Java may then."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__context__
    return seen is not None


@contextmanager
def interruptible(spark: SparkSession) -> Iterator[None]:
    """Ctrl-C cancels Spark's jobs and raises KeyboardInterrupt.

    PySpark's own handler calls Java in the middle of another call, which fails with pages of stack traces.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        logging.disable()  # Py4J would log the stack of the interrupted call
        # From another thread, which has its own connection to Java.
        cancelling = Thread(target=spark.sparkContext.cancelAllJobs, daemon=True)
        cancelling.start()
        cancelling.join(CANCEL_S)
        raise KeyboardInterrupt

    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def range_problem(args: argparse.Namespace) -> str | None:
    """The problem with --start and --end; None where there is none."""
    return (
        f"--start {args.start} is after --end {args.end}"
        if args.start and args.end and args.start > args.end
        else None
    )
