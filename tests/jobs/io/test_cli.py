"""What all command lines share: help, and Ctrl-C in the middle of a job."""

import os
import signal
import subprocess
import sys
import time

from jobs import embed_texts, show_runs
from jobs.io.cli import EXIT_INTERRUPTED, exit_code
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


def test_help_shows_only_defaults_a_person_would_type():
    assert "(default" not in embed_texts.arg_parser().format_help()
    assert "(default: 20)" in show_runs.arg_parser().format_help()
