"""Ctrl-C in the middle of a job: one sentence, its own exit code, and no process left."""

import os
import signal
import subprocess
import sys
import time

from tests.conftest import ROOT

JOB = """
import sys, time
from jobs.io.shell import Parser, run_main, say

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
    # A shell's job in the background ignores the signal, and so would this one where pytest is such a job.
    job = subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert job.stdout is not None and job.stdout.readline() == "begun\n"
        time.sleep(3)
        os.killpg(job.pid, signal.SIGINT)
        # To the end of its output: Java and the workers have it too.
        _, said = job.communicate(timeout=60)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    assert job.returncode == 130
    # Java may still say something of a task that its session left behind.
    assert "waiting: interrupted; the same command goes on from what is done" in said.splitlines()
    assert "Traceback" not in said and "Py4J" not in said
