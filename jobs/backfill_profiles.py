"""Runs the chain over a range of days: ingest in chunks, then embed, fold and check the whole range, and publish once.

Every day of the range must be there and closed; an empty day is an empty folder with _SUCCESS. Until the range is published
nothing of it shows to readers, and a killed backfill, started again, goes on after its last finished chunk. A range may lie
before days that are there already: their users are replayed to the end.

    python -m jobs.backfill_profiles --logs DIR --start D --end D --warehouse URI [--mapping FILE]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs import check_tables, ingest_events
from jobs.io import logs
from jobs.io.runs import DONE, FAILED, PUBLISHED, UNDONE, Record, publications, recorded, records, refuse_holes
from jobs.io.shell import Parser, iso_day, job_parser, range_problem, run_main, say
from jobs.run_night import chunks, finish_days, ingest_chunk

JOB = "backfill_profiles"


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    logs.add_logs(parser)
    parser.add_argument("--start", required=True, type=iso_day, metavar="D", help="first log day")
    parser.add_argument("--end", required=True, type=iso_day, metavar="D", help="last log day")
    return parser


def done_chunks(ordered: Sequence[Record], run_id: str) -> list[Record]:
    """What a killed run has ingested. A run that was published, taken back or found wanting begins anew: its logs may be others now."""
    own = [r for r in ordered if r.run_id == run_id]
    judged = [i for i, r in enumerate(own) if r.status in (PUBLISHED, UNDONE) or (r.job == check_tables.JOB and r.status == FAILED)]
    return [r for r in own[max(judged, default=-1) + 1 :] if r.job == ingest_events.JOB and r.status == DONE]


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    published = publications(spark, args.warehouse)
    refuse_holes(published, args.start, args.end, bootstrap=True, first_day=None)
    logs.require_closed(spark, args.logs, logs.days_between(args.start, args.end))
    # The same range under the same settings is the same run: that is how a killed one is found again.
    run_id = args.run_id or f"{JOB}-{args.start}-{args.end}-{args.config.config_hash()}-{args.mapping.mapping_hash()}"
    done = done_chunks(records(spark, args.warehouse), run_id)
    with recorded(spark, args.warehouse, args.config, JOB, run_id, args.start, args.end, has_steps=True, reads=[args.logs]):
        parts = chunks(args.start, args.end, args.config)
        for number, days in enumerate(parts, 1):
            if any(record.first == days[0] and record.last == days[-1] for record in done):
                say(f"{JOB}: chunk {number} of {len(parts)} ({days[0]}..{days[-1]}) was ingested before the last stop")
                continue
            say(f"{JOB}: chunk {number} of {len(parts)} ({days[0]}..{days[-1]})")
            ingest_chunk(spark, args.warehouse, args.config, run_id, args.logs, args.mapping, days)
        finish_days(spark, args.warehouse, args.config, run_id, args.start, args.end)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run, range_problem)


if __name__ == "__main__":
    sys.exit(main())
