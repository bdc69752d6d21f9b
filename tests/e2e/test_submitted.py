"""What spark-submit sets wins over a session's own defaults."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

JOB = """
import sys
from jobs.io.cli import Parser, run_main

def body(spark, args):
    for name in ("spark.hadoop.fs.permissions.umask-mode", "spark.sql.codegen.cache.maxEntries",
                 "spark.sql.ansi.enabled", "spark.redaction.regex", "spark.local.dir"):
        print(name, spark.sparkContext.getConf().get(name), sep="=")

sys.exit(run_main(Parser(prog="asking"), [], body))
"""


def test_submitted_properties_win_but_for_those_that_results_depend_on(tmp_path):
    (tmp_path / "job.py").write_text(JOB, encoding="utf-8")
    given = {
        "spark.hadoop.fs.permissions.umask-mode": "027",
        "spark.sql.ansi.enabled": "true",
        "spark.redaction.regex": "mine",
        "spark.local.dir": str(tmp_path),
    }
    asked = subprocess.run(
        [Path(sys.executable).with_name("spark-submit"), "--master", "local[1]", "--driver-memory", "512m"]
        + [word for pair in given.items() for word in ("--conf", "=".join(pair))]
        + [tmp_path / "job.py"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYSPARK_PYTHON": sys.executable,
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
    )
    found = dict(line.split("=", 1) for line in asked.stdout.splitlines() if line.startswith("spark."))
    assert asked.returncode == 0, asked.stderr
    assert found["spark.hadoop.fs.permissions.umask-mode"] == "027"
    assert found["spark.sql.codegen.cache.maxEntries"] == "1000"
    assert found["spark.sql.ansi.enabled"] == "false"
    assert found["spark.local.dir"] == str(tmp_path)
    assert found["spark.redaction.regex"].startswith("(mine)|(") and "_key" in found["spark.redaction.regex"]
