"""What all command lines share: arguments, one sentence for a mistake, and the exit code."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import NoReturn

from pyspark.sql import SparkSession

from jobs.io import faults
from jobs.io.failures import failure_sentence
from jobs.io.paths import folder_uri, small_text
from jobs.io.scratch import private_files
from jobs.io.session import open_session
from schemas.days import parse_day
from schemas.settings import Settings, SettingsError, parse_settings

EXIT_FAILED = 1
EXIT_BAD_ARGUMENTS = 2
EXIT_INTERRUPTED = 130
# How long Spark may take to cancel its jobs after Ctrl-C, seconds.
CANCEL_S = 5
# Bytes, since an erasure names a file after the run: file systems take 255.
LONGEST_RUN_ID = 200


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
        return parse_day(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
    if not 0 < len(text.encode()) <= LONGEST_RUN_ID or not text.isprintable() or "/" in text:
        raise argparse.ArgumentTypeError("a run id has 1 to 200 printable characters, without a slash")
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
