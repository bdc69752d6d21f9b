"""Ingest against Spark's bare read and write of the same rows, and the memory that a day thirty times as long takes.

python -m tests.perf.bench_ingest
"""

import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import psutil
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import ingest_events
from jobs.ingest.days import ingest_days
from jobs.io import delta, logs
from jobs.io.runs import Run
from jobs.io.session import fit_to_size, open_session
from schemas import behavior_events
from schemas.mapping import LogMapping, parse_mapping, shipped_mapping
from schemas.settings import Settings, SparkSettings
from tests.perf.report import Ratio, report

DAY = date(2025, 4, 1)
EVENTS, WARM_UP = 1_000_000, 100_000
SHORT, LONG = 100_000, 3_000_000
# Half of the bare speed is the aim; docs/decisions/0003-ingest.md says what stands between. This is what is reached, less what one
# machine varies.
LEAST = 0.25


def write_day(root: Path, events: int) -> str:
    """One file of canonical events: 10,000 items, 50,000 users, every tenth with a text of its own."""
    rng = random.Random(7)
    folder = root / f"dt={DAY}"
    folder.mkdir(parents=True)
    with (folder / "events.jsonl").open("w", encoding="utf-8") as file:
        for number in range(events):
            item = rng.randrange(10_000)
            event = {
                "event_id": f"e{number:09d}",
                "user_id": f"u{rng.randrange(50_000)}",
                "event_ts": f"{DAY}T{rng.randrange(24):02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}+02:00",
                "event_type": rng.choice(["view", "click", "purchase"]),
                "item_id": f"S{item}",
                "title": f"Item number {item} of the great shop",
                "value": round(rng.random() * 100, 2),
                "place": "home",
                "device": "phone",
                "session_id": f"s{number // 10}",
            }
            if number % 10 == 0:
                event |= {
                    "event_type": "review",
                    "rating": rng.randrange(1, 6),
                    "text": f"Review {number}: it is  nice, like café {item}",
                }
            file.write(json.dumps(event) + "\n")
    (folder / logs.CLOSED_MARK).touch()
    return str(root)


def ingest(spark: SparkSession, logs_root: str, warehouse: str, mapping: LogMapping) -> Run:
    run = Run("bench", ingest_events.JOB, DAY, DAY, Settings().config_hash())
    fit_to_size(spark, [logs_root])
    ingest_days(spark, warehouse, Settings(), run, logs_root, mapping, [DAY])
    return run


def write_bare(spark: SparkSession, logs_root: str, warehouse: str, mapping: LogMapping) -> None:
    """What a user would write: read the lines, give the columns their types, append them to a table of the same schema."""
    fit_to_size(spark, [logs_root])
    lines = spark.read.schema(
        ", ".join(f"{name} {ddl}" for name, ddl in mapping.source.columns.items())
    ).json(f"{logs_root}/dt={DAY}")
    delta.append(spark, warehouse, behavior_events.TABLE, bare_rows(lines))


def bare_rows(lines: DataFrame) -> DataFrame:
    """The rows that the ingest stores of this log, but for blanks within texts: checks, doubles and items are what it does beside."""
    time_, text = F.col("event_ts").cast("timestamp"), F.coalesce("text", "title")
    made = {
        "event_ts": time_, "event_date": F.to_date(time_), "log_date": F.lit(DAY), "text": text, "text_key": F.sha2(text, 256),
        "rating": (F.col("rating") - 1) / 4, "utc_offset_min": F.lit(120),
        "user_bucket": F.pmod(F.xxhash64("user_id"), F.lit(Settings().store.user_buckets)),
        "source_file": F.lit("events.jsonl"), "ordinal": F.lit(0),
    }  # fmt: skip
    return lines.withColumns(made)


def seconds(act: object, *arguments: object) -> float:
    began = time.monotonic()
    act(*arguments)  # type: ignore[operator]
    return time.monotonic() - began


def peak_memory(command: list[str]) -> int:
    """Bytes that a command and the processes below it hold at most, looked at ten times a second."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.1):
            try:
                root = psutil.Process(process.pid)
                # A process that Java is about to start shares all of Java's memory for a moment, and would count twice.
                settled = [
                    p for p in (root, *root.children(recursive=True)) if time.time() - p.create_time() > 1
                ]
                peak = max(peak, sum(p.memory_info().rss for p in settled))
            except psutil.NoSuchProcess:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    ended.set()
    watcher.join()
    if status:
        raise RuntimeError(f"{command[2]} ended with {status}")
    return peak


def job_peak(folder: Path, events: int) -> int:
    logs_root = write_day(folder / "logs", events)
    arguments = ["--logs", logs_root, "--date", str(DAY), "--warehouse", str(folder / "warehouse")]
    return peak_memory([sys.executable, "-m", "jobs.ingest_events", *arguments])


def main() -> int:
    mapping = parse_mapping(shipped_mapping("canonical") or "", "canonical")
    with tempfile.TemporaryDirectory() as folder, open_session("bench", SparkSettings()) as spark:
        root = Path(folder)
        small, large = write_day(root / "small", WARM_UP), write_day(root / "large", EVENTS)
        bare, ours = [], []
        for round_, day in enumerate((small, large, large, large)):
            bare.append(seconds(write_bare, spark, day, str(root / f"bare{round_}"), mapping))
            ours.append(seconds(ingest, spark, day, str(root / f"ours{round_}"), mapping))
    with tempfile.TemporaryDirectory() as folder:
        short, long = (job_peak(Path(folder) / str(events), events) for events in (SHORT, LONG))
    # Best of three after a warm-up: Java goes on compiling for a while.
    ratios = [
        Ratio("ingest speed over bare read and write, 1M events", min(bare[1:]) / min(ours[1:]), least=LEAST),
        Ratio("peak memory of 3M events over 100k, one file", long / short, most=1.5),
    ]
    figures = {
        "events": EVENTS, "bare_seconds": min(bare[1:]), "ingest_seconds": min(ours[1:]),
        "events_per_second": EVENTS / min(ours[1:]), "peak_mb_100k": short >> 20, "peak_mb_3m": long >> 20,
    }  # fmt: skip
    return report("ingest", ratios, figures)


if __name__ == "__main__":
    sys.exit(main())
