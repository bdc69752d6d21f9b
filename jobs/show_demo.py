"""The page at the end of the demo: what was built, how a profile moved and why, and what to try next; reads only.

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

from jobs.io.cli import Parser, existing_folder, job_parser, run_main
from jobs.io.history import Record
from jobs.io.messages import JobError, say
from jobs.io.runs import RunLog
from jobs.io.warehouse import Warehouse
from schemas import behavior_events, profile_states
from schemas.all_tables import ALL_TABLES
from schemas.table import Table

JOB = "show_demo"
DAYS_SHOWN = 12
BAR, TEXT_WIDTH = 24, 44


def arg_parser() -> Parser:
    parser = job_parser(JOB, __doc__)
    parser.add_argument(
        "--logs",
        required=True,
        type=existing_folder,
        metavar="DIR",
        help="the logs the warehouse was made from",
    )
    return parser


def most_moved(states: DataFrame) -> Any:
    """The user whose main profile moved most after its first 20 events, and the day of the largest move; None without any."""
    settled = states.where("facet = 'main' AND event_count >= 20 AND drift IS NOT NULL").groupBy("user_id")
    moved = settled.agg(
        F.sum("drift").alias("way"),
        F.max_by("as_of_date", "drift").alias("as_of_date"),
        F.count("*").alias("days"),
    )
    return moved.orderBy(F.col("days") < 5, F.col("way").desc(), "user_id").first()


def days_of(states: DataFrame, events: DataFrame, user_id: str) -> list[Any]:
    """A row for each state of the user's main profile, with the day's events that have the largest shares in it."""
    own = states.where((F.col("user_id") == user_id) & (F.col("facet") == "main"))
    shares = own.select("as_of_date", F.explode("contributions").alias("c")).select("as_of_date", "c.*")
    told = shares.join(
        events.where(F.col("user_id") == user_id).select("event_id", "event_date", "event_type", "text"),
        "event_id",
    )
    today = (
        told.where("event_date = as_of_date")
        .groupBy("as_of_date")
        .agg(
            F.sort_array(F.collect_list(F.struct("weight", "event_type", "text")), asc=False).alias("causes")
        )
    )
    return (
        own.join(today, "as_of_date", "left")
        .orderBy("as_of_date")
        .select("as_of_date", "event_count", "drift", "causes")
        .collect()
    )


def tables_part(warehouse: Warehouse, shown: Record) -> list[str]:
    lines = [f"  {'table':<20} {'version':>7} {'rows':>9}"]
    for table in ALL_TABLES:
        if table.name in shown.output_versions:
            version = shown.output_versions[table.name]
            lines.append(f"  {table.name:<20} {version:>7} {published(warehouse, table, shown).count():>9,}")
    return lines


def published(warehouse: Warehouse, table: Table, shown: Record) -> DataFrame:
    """A table as the last publication shows it to readers."""
    return warehouse.read_version(table, shown.output_versions[table.name])


def texts_part(log: RunLog) -> list[str]:
    done = log.rows().where("job = 'embed_texts' AND status = 'done'").orderBy("ended").collect()
    lines = []
    for row in done[-3:]:
        counts, span = (
            row["counts"],
            f"{row['from_date']}..{row['date']}" if row["from_date"] != row["date"] else f"{row['date']}",
        )
        lines.append(
            f"  {span:<24} {counts['texts']:>7,} texts  {counts['embedded']:>7,} embedded  {counts['reused']:>7,} reused"
        )
    return lines


def profile_part(rows: list[Any], turn: Any) -> list[str]:
    """The days around the largest move, each with its drift as a bar and what caused it."""
    at = next(i for i, row in enumerate(rows) if row["as_of_date"] == turn)
    first = max(0, min(at - DAYS_SHOWN // 2, len(rows) - DAYS_SHOWN))
    chosen = rows[first : first + DAYS_SHOWN]
    largest = max(row["drift"] or 0.0 for row in chosen) or 1.0
    lines = [
        f"  {'day':<10} {'events':>6}  {'drift':<{BAR + 6}} what moved it most (share of today's profile)"
    ]
    for row in chosen:
        drift = row["drift"] or 0.0
        bar = "█" * round(BAR * drift / largest)
        causes = "; ".join(
            f"{c['event_type']} '{_cut(c['text'])}' {100 * c['weight']:.0f}%"
            for c in (row["causes"] or [])[:1]
        )
        lines.append(f"  {row['as_of_date']} {row['event_count']:>6}  {drift:.3f} {bar:<{BAR}} {causes}")
    return lines


def truth_part(logs_root: str, user_id: str) -> list[str]:
    """What the demo log knows of the user's true interests, where it is a demo log."""
    path = Path(logs_root) / "_truth" / "users.jsonl"
    if not path.is_file():
        return []
    truth = next(
        (
            u
            for u in map(json.loads, path.read_text(encoding="utf-8").splitlines())
            if u["user_id"] == user_id
        ),
        None,
    )
    if truth is None or truth["change_date"] is None:
        return ["  The log's truth: this user's interests never change."] if truth else []
    return [
        f"  The log's truth: on {truth['change_date']} interests changed from {_mixture(truth['before'])} to {_mixture(truth['after'])}."
    ]


def queries_part(warehouse: str) -> list[str]:
    """Three queries that run without Spark."""
    queries = (
        ("Whose profile moved most in a day?",
         "SELECT user_id, facet, as_of_date, event_count, round(drift, 3) AS drift FROM profile_states WHERE event_count > 20 "
         "ORDER BY drift DESC LIMIT 5"),
        ("What could not be used, and why?", "SELECT reason, count(*) AS records FROM quarantined_events GROUP BY reason"),
        ("What do people do, and how often has it a text?",
         "SELECT event_type, count(*) AS events, count(text_key) AS with_text FROM behavior_events GROUP BY event_type"),
    )  # fmt: skip
    lines = []
    for number, (question, sql) in enumerate(queries, 1):
        lines += [f"  {number}. {question}", f'     make query WAREHOUSE={warehouse} SQL="{sql}"']
    return lines


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_WIDTH else text[: TEXT_WIDTH - 1] + "…"


def _mixture(weights: dict[str, float]) -> str:
    largest = sorted(weights.items(), key=lambda entry: -entry[1])[:2]
    return " and ".join(name for name, weight in largest if weight >= 0.2)


def run(spark: SparkSession, args: argparse.Namespace) -> None:
    log = RunLog(Warehouse(spark, args.warehouse))
    spans = log.publications()
    if not spans:
        raise JobError(f"nothing is published in {args.warehouse}")
    shown = spans[-1]
    states = published(log.warehouse, profile_states.TABLE, shown)
    events = published(log.warehouse, behavior_events.TABLE, shown)
    say(f"\nNightfold: profiles as of {shown.days.last}\n")
    say("\n".join(["Tables, as published", *tables_part(log.warehouse, shown), ""]))
    say("\n".join(["Texts: each distinct one is embedded once, ever", *texts_part(log), ""]))
    moved = most_moved(states)
    if moved is not None:
        rows = days_of(states, events, moved["user_id"])
        lines = profile_part(rows, moved["as_of_date"]) + truth_part(args.logs, moved["user_id"])
        say("\n".join([f"The profile of {moved['user_id']} from day to day", *lines, ""]))
    say("\n".join(["Where it lies", f"  logs      {args.logs}", f"  warehouse {args.warehouse}", ""]))
    say("\n".join(["Three queries to try", *queries_part(args.warehouse), ""]))


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(arg_parser(), argv, run)


if __name__ == "__main__":
    sys.exit(main())
