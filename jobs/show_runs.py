"""Prints the last runs of a warehouse: what each job did, how long it took, what failed and what to do next; reads only.

python -m jobs.show_runs --warehouse URI [--last 20] [--versions]
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.io import delta
from jobs.io.cli import Parser, job_parser, run_main
from jobs.io.history import FAILED, STARTED, Record
from jobs.io.messages import JobError, say
from jobs.io.runs import publications, runs_table
from schemas import pipeline_runs

JOB = "show_runs"


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--last", type=int, default=20, metavar="N", help="how many records to show")
    parser.add_argument(
        "--versions", action="store_true", help="print the published version of every table instead"
    )
    return parser


def latest_status(runs: DataFrame) -> DataFrame:
    """One row for each attempt of a job: its last status; one that only ever started is running, or was killed."""
    of_attempt = Window.partitionBy("run_id", "job", "attempt").orderBy(F.col("ended").desc_nulls_last())
    return runs.withColumn("nth", F.row_number().over(of_attempt)).where("nth = 1").drop("nth")


def line(row: dict[str, Any]) -> str:
    took = f"{row['took']:.1f} s" if row["took"] is not None else "not ended"
    told = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in row["counts"].items() if n)
    return f"{row['started']:%Y-%m-%d %H:%M:%S}  {row['job']:<17} {span(row):<22} {row['status']:<9} {took:>9}  {row['message'] or told}"


def span(row: dict[str, Any]) -> str:
    return str(row["date"]) if row["date"] == row["from_date"] else f"{row['from_date']}..{row['date']}"


def next_step(rows: Sequence[dict[str, Any]]) -> str | None:
    """What to do about the newest run, where it did not end well; `rows` are in the order of their start."""
    newest = [row for row in rows if row["run_id"] == rows[-1]["run_id"]] if rows else []
    broken = next((row for row in newest if row["status"] in (FAILED, STARTED)), None)
    if broken is None:
        return None
    whole = newest[0]["job"]
    again = f"run {whole} for {span(newest[0])} again: what was done is kept, and nothing needs cleaning"
    if broken["status"] == STARTED:
        return f"{broken['job']} of {span(broken)} has not ended; if it is not running any more, {again}"
    if broken["job"] == "check_tables":
        return f"rules do not hold for {span(broken)}: look at check_results, correct the day's logs or the settings, and {again}"
    return f"{broken['job']} of {span(broken)} failed: mend what it says, and {again}"


def version_lines(published: Record) -> list[str]:
    return [f"{name:<20} {version:>6}" for name, version in sorted(published.output_versions.items())]


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    if not delta.table_exists(spark, args.warehouse, pipeline_runs.TABLE):
        raise JobError(f"nothing was ever run on {args.warehouse}")
    published = publications(spark, args.warehouse)
    if args.versions:
        if not published:
            raise JobError(f"nothing is published in {args.warehouse}")
        say("\n".join(version_lines(published[-1])))
        return
    took = (F.col("ended").cast("double") - F.col("started").cast("double")).alias("took")
    found = (
        latest_status(runs_table(spark, args.warehouse))
        .select("*", took)
        .orderBy(F.col("started").desc())
        .limit(args.last)
        .collect()
    )
    rows = [row.asDict() for row in reversed(found)]
    for row in rows:
        say(line(row))
    say(
        f"published: {min(p.first for p in published)} to {max(p.last for p in published)}"
        if published
        else "published: nothing"
    )
    if step := next_step(rows):
        say(f"next: {step}")


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
