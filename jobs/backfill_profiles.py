"""Runs the night's steps over a range of days.

Ingest in chunks, then embed, fold and check the range, and publish once.

Every day of the range must exist and be closed; an empty day is an empty folder with _SUCCESS. Readers see
nothing of the range until it is published, and a killed backfill, rerun, continues after its last finished
chunk. A range may lie before existing days: their users are replayed to the end.

With --rebuild the published history is folded again from the stored events under the current settings, only
the facets whose meaning changed, and then swapped in. With --dry-run it says what would be done, and does
nothing.

    python -m jobs.backfill_profiles (--logs DIR --start D --end D [--mapping FILE] | --rebuild)
        --warehouse URI [--dry-run]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.fold.facets import require_predicates
from jobs.fold.ranges import fold_range, rebuild_days
from jobs.fold.tables import refuse_other_settings
from jobs.ingest.days import JOB as INGEST
from jobs.io.cli import Parser, iso_day, job_parser, range_problem, run_main
from jobs.io.days import Days
from jobs.io.erased import refuse_unfinished_erasure
from jobs.io.history import Record, history_of, refuse_holes
from jobs.io.logs import Logs, add_logs, require_closed
from jobs.io.messages import JobError
from jobs.io.runs import RunLog, RunSpec, recorded
from jobs.io.warehouse import Warehouse
from jobs.night.checks import JOB as CHECK
from jobs.night.estimate import tell_range, tell_rebuild
from jobs.night.guards import refuse_thinned, refuse_unfinished
from jobs.night.losses import FIRST_OF_NIGHT, FIRST_OF_REBUILD, refuse_losses
from jobs.night.steps import Night, run_steps
from schemas.pipeline_runs import DONE, FAILED, PUBLISHED, UNDONE
from schemas.settings import Settings

JOB = "backfill_profiles"


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    add_logs(parser, required=False)
    parser.add_argument("--start", type=iso_day, metavar="D", help="first log day")
    parser.add_argument("--end", type=iso_day, metavar="D", help="last log day")
    rebuild_help = "fold the published history again where settings changed its meaning"
    parser.add_argument("--rebuild", action="store_true", help=rebuild_help)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    return parser


def arguments_problem(args: argparse.Namespace) -> str | None:
    given = [value is not None for value in (args.logs, args.start, args.end)]
    if args.rebuild and any(given):
        return "--rebuild takes the entire published history; leave out --logs, --start and --end"
    if not args.rebuild and not all(given):
        return "give --logs, --start and --end, or --rebuild"
    return range_problem(args)


def ingested_chunks(ordered: Sequence[Record], run_id: str) -> list[Days]:
    """The chunks that a killed run has ingested.

    A run that was published, rolled back or failed its check starts over: its logs may be different now.
    """
    own = [r for r in ordered if r.run_id == run_id]
    judged = [
        i
        for i, r in enumerate(own)
        if r.status in (PUBLISHED, UNDONE) or (r.job == CHECK and r.status == FAILED)
    ]
    since = own[max(judged, default=-1) + 1 :]
    return [r.days for r in since if r.job == INGEST and r.status == DONE]


def range_run_id(args: argparse.Namespace) -> str:
    """The same range under the same settings is the same run: that is how a killed one is found again."""
    hashes = f"{args.config.config_hash()}-{args.mapping.mapping_hash()}"
    return args.run_id or f"{JOB}-{args.start}-{args.end}-{hashes}"


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    require_predicates(spark, args.config.fold)
    log = RunLog(Warehouse(spark, args.warehouse))
    if args.rebuild:
        rebuild(log, args)
        return
    logs, days, settings = Logs(args.logs, args.mapping), Days(args.start, args.end), args.config
    lost = refuse_losses(log, FIRST_OF_NIGHT, days)
    refuse_holes(log.publications(), days, bootstrap=True, first_day=None)
    require_closed(spark, logs.root, days)
    run_id = range_run_id(args)
    done = ingested_chunks(log.records(), run_id)
    ingested = [chunk for chunk in done if not any(chunk.overlaps(loss.days) for loss in lost)]
    if args.dry_run:
        refuse_other_settings(log.warehouse, settings)
        tell_range(log, settings, logs, days, ingested)
        return
    spec = RunSpec(JOB, run_id, days, settings.config_hash())
    with recorded(log, spec, has_steps=True, reads=[logs.root]) as record:
        refuse_other_settings(log.warehouse, settings)
        ordered = log.records()
        refuse_unfinished(ordered, days)
        refuse_thinned(ordered, settings, days.first)
        run_steps(record, Night(settings, days, logs, ingested, fold_range))


def rebuild(log: RunLog, args: argparse.Namespace) -> None:
    """Folds the published history again where its meaning changed, and publishes it."""
    settings: Settings = args.config
    days = history_of(log.publications())
    if days is None:
        raise JobError(f"nothing is published in {args.warehouse}; there is nothing to rebuild")
    refuse_losses(log, FIRST_OF_REBUILD, days)
    if args.dry_run:
        tell_rebuild(log, settings, days)
        return
    refuse_unfinished_erasure(log.warehouse)
    with recorded(log, RunSpec.of(args, JOB, days), has_steps=True) as record:
        # An unfinished day is refused only at the end: under new settings it could not be run before the
        # rebuild, and the rerun uses what was folded here.
        run_steps(record, Night(settings, days, fold=rebuild_days, compared_from=days.last))


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run, arguments_problem)


if __name__ == "__main__":
    sys.exit(main())
