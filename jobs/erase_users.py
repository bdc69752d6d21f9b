"""Erases users: their rows in every table, the files that still hold them, and their return by later ingests.

First they are listed in erased_users, by hash; then their rows go, table by table; the tables without them
are published; then every file that no table needs any more is removed, and with it all versions before. A
scan of every byte of the warehouse proves it. Other users' profiles stay as they are. Killed, the same
command finishes the work; nights are refused until the rows are gone.

    python -m jobs.erase_users --ids FILE --date D --warehouse URI --config FILE [--dry-run]
"""

import argparse
import sys
from collections.abc import Sequence

from pyspark.sql import SparkSession

from jobs.erase.ids import ids_file
from jobs.erase.proof import prove
from jobs.erase.rows import Wanted, erase_rows, known_users, list_users, mark_gone
from jobs.fold.ranges import SHADOW
from jobs.ingest.privacy import require_same_key, stored_form
from jobs.io.cli import Parser, iso_day, job_parser, run_main
from jobs.io.days import Days
from jobs.io.erased import unfinished_erasures
from jobs.io.history import history_of
from jobs.io.messages import JobError, count_list, say
from jobs.io.runs import Run, RunLog, RunSpec, recorded
from jobs.io.storage import every_file, remove_folder
from jobs.io.unused_files import remove_unused
from jobs.io.warehouse import Warehouse
from jobs.night.guards import ERASURE as JOB
from jobs.night.losses import refuse_losses
from jobs.night.publication import publish_erasure, refuse_erasure
from schemas.all_tables import ALL_TABLES
from schemas.ranking_models import FOLDER


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument(
        "--ids", required=True, type=ids_file, metavar="FILE", help="the users, an id of the log on each line"
    )
    day_help = "the day of the erasure, as erased_users will have it"
    parser.add_argument("--date", required=True, type=iso_day, metavar="D", help=day_help)
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be removed, and change nothing"
    )
    return parser


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    warehouse, form = Warehouse(spark, args.warehouse), stored_form(args.config)
    if not any(warehouse.exists(table) for table in ALL_TABLES):
        raise JobError(f"there are no tables in {args.warehouse}")
    require_same_key(warehouse, form.key_name)
    wanted = Wanted(spark, args.ids, tuple(map(form.user_id, args.ids)))
    if args.dry_run:
        counts = {**known(warehouse, wanted), **erase_rows(warehouse, None, wanted)}
        say(f"{JOB} {args.date} would do: {count_list(counts)}; nothing was changed")
        return
    log = RunLog(warehouse)
    history = history_of(log.publications())
    # The rules of later nights look for the record near the newest day.
    day = max(args.date, history.last) if history else args.date
    refuse_losses(log, JOB, Days.only(day))
    with recorded(log, RunSpec.of(args, JOB, Days.only(day)), reads=[warehouse.uri]) as record:
        refuse_erasure_unless_begun(log)
        # Refused before a row goes: the proof could not look behind a link.
        every_file(spark, warehouse.uri)
        # The record of this start is in its table before that is changed.
        log.flush()
        with record.phase("rows"):
            record.counts |= known(warehouse, wanted)
            list_users(record.writer, wanted, args.date)
            record.counts |= erase_rows(warehouse, record.writer, wanted)
            mark_gone(record.writer, wanted)
        publish_erasure(record)
        with record.phase("files"):
            record.counts["files_removed"] = remove_files(record)
        with record.phase("scan"):
            prove(record, wanted, args.date)


def known(warehouse: Warehouse, wanted: Wanted) -> dict[str, int]:
    found = known_users(warehouse, wanted)
    return {"ids": len(wanted.ids), "known": found, "unknown": len(wanted.ids) - found}


def refuse_erasure_unless_begun(log: RunLog) -> None:
    """Raises JobError where readers would see unfinished days; not where an erasure has to be finished.

    No night has changed anything since that one began, and none may before it is done.
    """
    ordered = log.records()
    if not unfinished_erasures(log.warehouse):
        refuse_erasure(ordered)


def remove_files(record: Run) -> int:
    """Removes all files that the current tables do not need, of models, and of a stopped rebuild."""
    warehouse = record.warehouse
    for folder in (SHADOW, FOLDER):
        remove_folder(record.spark, f"{warehouse.uri}/{folder}")
    there = [table for table in ALL_TABLES if warehouse.exists(table)]
    return sum(remove_unused(record.writer, table, None)[0] for table in there)


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
