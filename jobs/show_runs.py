"""Prints the last runs of a warehouse: what each job did, how long it took, and what failed; reads only, and so has no record.

python -m jobs.show_runs --warehouse URI [--last 20]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.io import delta
from jobs.io.runs import publications, runs_table
from jobs.io.shell import JobError, Parser, job_parser, run_main, say
from schemas import pipeline_runs

JOB = "show_runs"


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument("--last", type=int, default=20, metavar="N", help="how many records to show")
    return parser


def latest_status(runs: DataFrame) -> DataFrame:
    """One row for each attempt of a job: its last status; one that only ever started is running, or was killed."""
    of_attempt = Window.partitionBy("run_id", "job", "attempt").orderBy(F.col("ended").desc_nulls_last())
    return runs.withColumn("nth", F.row_number().over(of_attempt)).where("nth = 1").drop("nth")


def line(row: dict[str, object]) -> str:
    span = str(row["date"]) if row["date"] == row["from_date"] else f"{row['from_date']}..{row['date']}"
    took = f"{row['took']:.1f} s" if row["took"] is not None else "not ended"
    counts = row["counts"]
    told = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items() if n) if isinstance(counts, dict) else ""
    return f"{row['started']:%Y-%m-%d %H:%M:%S}  {row['job']:<17} {span:<22} {row['status']:<9} {took:>9}  {row['message'] or told}"


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    if not delta.table_exists(spark, args.warehouse, pipeline_runs.TABLE):
        raise JobError(f"nothing was ever run on {args.warehouse}")
    took = (F.col("ended").cast("double") - F.col("started").cast("double")).alias("took")
    rows = latest_status(runs_table(spark, args.warehouse)).select("*", took).orderBy(F.col("started").desc()).limit(args.last).collect()
    for row in reversed(rows):
        say(line(row.asDict()))
    published = publications(spark, args.warehouse)
    say(f"published: {min(p.first for p in published)} to {max(p.last for p in published)}" if published else "published: nothing yet")


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
