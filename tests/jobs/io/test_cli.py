"""What all command lines share: help, and Ctrl-C in the middle of a job."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from jobs import embed_texts, ingest_events, show_runs
from jobs.io.cli import EXIT_INTERRUPTED, exit_code, settings_file
from jobs.io.messages import JobError
from tests.conftest import ROOT

JOB = """
import sys, time
from jobs.io.cli import Parser, run_main
from jobs.io.messages import say

def wait(batches):
    time.sleep(600)
    yield from batches

def body(spark, args):
    say("begun")
    spark.range(1).mapInArrow(wait, "id bigint").collect()

sys.exit(run_main(Parser(prog="waiting"), [], body))
"""


def test_an_interrupted_job_says_so_in_one_sentence_and_leaves_no_process():
    command = [sys.executable, "-c", JOB]
    pipe = subprocess.PIPE
    # A shell's background job ignores the signal, and so would this one if pytest is such a job.
    job = subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread runs here
    )  # fmt: skip
    try:
        assert job.stdout is not None and job.stdout.readline() == "begun\n"
        time.sleep(3)
        os.killpg(job.pid, signal.SIGINT)
        # Until its output ends: Java and the workers hold the pipe too.
        _, said = job.communicate(timeout=60)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    assert job.returncode == 130
    # Java may still report a task that its session left behind.
    assert "waiting: interrupted; the same command continues where it stopped" in said.splitlines()
    assert "Traceback" not in said and "Py4J" not in said


def test_what_fails_after_an_interrupt_does_not_hide_it(capsys):
    def work():
        try:
            raise KeyboardInterrupt
        finally:
            raise JobError("Java does not answer")

    assert exit_code("waiting", work) == EXIT_INTERRUPTED
    assert capsys.readouterr().err == ("waiting: interrupted; the same command continues where it stopped\n")


FOLD = b"fold: {alpha: 0.5}\n"


def as_link(path, target):
    path.symlink_to(target)


def written(content):
    return lambda path: path.write_bytes(content)


# What may lie where a settings or mapping file is expected, and what is said of it.
NO_FILE = {
    "a device without end": (lambda path: as_link(path, "/dev/zero"), "is no file"),
    "a terminal": (lambda path: as_link(path, "/dev/tty"), "is no file"),
    "a pipe that nobody writes to": (os.mkfifo, "is no file"),
    "a folder": (lambda path: path.mkdir(), "is no file"),
    "a circle of links": (lambda path: as_link(path, path), "no such file|can't be read: "),
    "text of an older encoding": (written(FOLD + b"# \xe9"), "is not UTF-8 on line 2: "),
    "two bytes a character": (written(FOLD.decode().encode("utf-16")), "is not UTF-8"),
    "a hundred megabytes": (lambda path: sparse(path, 100 << 20), "is larger than 1 MiB"),
    "much in other letters": (written(b"a: " + "\u4e2d".encode() * 400_000), "is larger than"),
    "a NUL": (written(b"fold: {alpha: 0.5\0}"), "is not valid YAML"),
    "deep nesting": (written(b"[" * 1_000_000), "is nested more than 20 levels"),
    "a bomb of aliases": (written(b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"), "uses an alias"),
    "a key twice": (written(FOLD + FOLD), "has the key 'fold' twice"),
    "a huge number": (written(b"fold: {alpha: 1" + b"0" * 400 + b"}"), "fold.alpha|source"),
}


def sparse(path, size):
    path.touch()
    os.truncate(path, size)


@pytest.mark.parametrize("option", ["--config", "--mapping"])
@pytest.mark.parametrize("what", NO_FILE)
def test_what_is_no_settings_or_mapping_file_is_said_at_once(what, option, tmp_path, capsys):
    make, told = NO_FILE[what]
    make(tmp_path / "file.yaml")
    argv = ["--date", "2025-04-01", "--warehouse", str(tmp_path), "--logs", str(tmp_path)]
    with pytest.raises(SystemExit) as exit_:
        ingest_events.arg_parser().parse_args([*argv, option, str(tmp_path / "file.yaml")])
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and error.count("\n") == 1 and len(error) < 700
    assert re.search(told, error) and "file.yaml" in error and "Error" not in error


def test_a_byte_order_mark_is_no_part_of_the_settings(tmp_path):
    (tmp_path / "file.yaml").write_bytes(b"\xef\xbb\xbf" + FOLD)
    assert settings_file(str(tmp_path / "file.yaml")).fold.alpha == 0.5


def test_help_shows_only_defaults_a_person_would_type():
    assert "(default" not in embed_texts.arg_parser().format_help()
    assert "(default: 20)" in show_runs.arg_parser().format_help()
