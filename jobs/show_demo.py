"""Prints the page that ends the demo: tables, how a profile moved and why, and queries to try. Only reads.

python -m jobs.show_demo --warehouse URI --logs DIR
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.demo import page
from jobs.io.cli import Parser, job_parser, run_main
from jobs.io.history import Record
from jobs.io.messages import JobError, say
from jobs.io.paths import existing_folder
from jobs.io.runs import RunLog
from jobs.io.warehouse import Warehouse
from schemas import behavior_events, items, profile_states, recommendations
from schemas.all_tables import ALL_TABLES
from schemas.table import Table

JOB = "show_demo"
EMBEDDINGS_SHOWN = 3


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    add = parser.add_argument
    add("--logs", required=True, type=existing_folder, metavar="DIR", help="logs of this warehouse")
    return parser


def published(warehouse: Warehouse, table: Table, shown: Record) -> DataFrame:
    """The version of a table that the publication shows to readers."""
    return warehouse.read_version(table, shown.output_versions[table.name])


def table_sizes(warehouse: Warehouse, shown: Record) -> list[tuple[str, int, int]]:
    """Name, version and number of rows of each published table."""
    return [
        (table.name, shown.output_versions[table.name], published(warehouse, table, shown).count())
        for table in ALL_TABLES
        if table.name in shown.output_versions
    ]


def last_embeddings(log: RunLog) -> list[Any]:
    """The last completed runs of embed_texts, oldest first."""
    done = log.rows().where("job = 'embed_texts' AND status = 'done'")
    return done.orderBy("sequence").collect()[-EMBEDDINGS_SHOWN:]


def most_moved(states: DataFrame) -> Any:
    """The user whose main profile moved most after its first 20 events, and the day of the largest move.

    Users with fewer than five days come last; None if there is no user.
    """
    settled = states.where("facet = 'main' AND event_count >= 20 AND drift IS NOT NULL").groupBy("user_id")
    moved = settled.agg(
        F.sum("drift").alias("distance"),
        F.max_by("as_of_date", "drift").alias("as_of_date"),
        F.count("*").alias("days"),
    )
    return moved.orderBy(F.col("days") < 5, F.col("distance").desc(), "user_id").first()


def profile_days(states: DataFrame, events: DataFrame, user_id: str) -> list[Any]:
    """The states of the user's main profile, each with the event of its day that has the largest share."""
    own = states.where((F.col("user_id") == user_id) & (F.col("facet") == "main"))
    shares = own.select("as_of_date", F.explode("contributions").alias("c")).select("as_of_date", "c.*")
    own_events = events.where(F.col("user_id") == user_id)
    causes = (
        shares.join(own_events.select("event_id", "event_date", "event_type", "text"), "event_id")
        .where("event_date = as_of_date")
        .groupBy("as_of_date")
        .agg(F.max(F.struct("weight", "event_type", "text")).alias("cause"))
    )
    days = own.join(causes, "as_of_date", "left").orderBy("as_of_date")
    return days.select("as_of_date", "event_count", "drift", "cause").collect()


def list_of(warehouse: Warehouse, shown: Record, user_id: str) -> list[Any]:
    """The newest published list of a user, with the names of items and the events behind each."""
    if recommendations.TABLE.name not in shown.output_versions:
        return []
    own = published(warehouse, recommendations.TABLE, shown).where(
        (F.col("user_id") == user_id) & (F.col("facet") == "main")
    )
    newest = own.where(F.col("as_of_date") == own.agg(F.max("as_of_date")).collect()[0][0])
    versions = published(warehouse, items.TABLE, shown).groupBy("item_id")
    named = newest.join(versions.agg(F.max_by("title", "valid_from").alias("title")), "item_id", "left")
    events = published(warehouse, behavior_events.TABLE, shown).where(F.col("user_id") == user_id)
    asked = named.select(F.explode("because").alias("event_id")).distinct()
    causes = {row["event_id"]: row for row in events.join(asked, "event_id").collect()}
    return [
        row.asDict()
        | {"name": row["title"] or row["item_id"], "because": [causes[event] for event in row["because"]]}
        for row in named.orderBy("rank").collect()
    ]


def truth_of(logs_root: str, user_id: str) -> dict[str, Any] | None:
    """The true interests of a user; None if the log is not a demo log."""
    path = Path(logs_root) / "_truth" / "users.jsonl"
    if not path.is_file():
        return None
    users = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return next((user for user in users if user["user_id"] == user_id), None)


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    warehouse = Warehouse(spark, args.warehouse)
    log = RunLog(warehouse)
    published_runs = log.publications()
    if not published_runs:
        raise JobError(f"nothing is published in {warehouse.uri}; run backfill_profiles or run_night first")
    shown = published_runs[-1]
    say(f"\nNightfold: profiles as of {shown.days.last}\n")
    say(page.section("Published tables", page.table_lines(table_sizes(warehouse, shown))))
    embeddings = page.embedding_lines(last_embeddings(log))
    say(page.section("Texts: each distinct text is embedded only once", embeddings))
    states = published(warehouse, profile_states.TABLE, shown)
    moved = most_moved(states)
    if moved is not None:
        user_id = moved["user_id"]
        events = published(warehouse, behavior_events.TABLE, shown)
        lines = page.profile_lines(profile_days(states, events, user_id), moved["as_of_date"])
        truth = page.truth_lines(truth_of(args.logs, user_id))
        say(page.section(f"The profile of {user_id}, day by day", lines + truth))
        if listed := list_of(warehouse, shown, user_id):
            say(page.section(f"What {user_id} is recommended", page.list_lines(listed) + truth))
    say(page.section("Locations", [f"  logs      {args.logs}", f"  warehouse {warehouse.uri}"]))
    say(page.section("Three queries to try", page.query_lines(warehouse.uri)))


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
