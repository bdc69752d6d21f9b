"""A warehouse with events that have texts and nothing else, for tests of the embed stage."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.io import delta
from schemas import behavior_events
from tests.e2e.tables import rows_of
from udfs.text import text_key

DAY = date(2025, 3, 3)


def write_events(spark: SparkSession, warehouse: str, texts: Sequence[str], day: date = DAY) -> None:
    """One event of one user for each text."""
    common = {
        "user_id": "u", "user_bucket": 0, "event_ts": datetime(day.year, day.month, day.day, 12, tzinfo=UTC), "event_date": day,
        "log_date": day, "event_type": "view", "source_file": "f", "ordinal": 0,
    }  # fmt: skip
    nothing = dict.fromkeys(behavior_events.TABLE.names)
    rows = [
        nothing | common | {"event_id": f"{day} {i}", "text": text, "text_key": text_key(text)}
        for i, text in enumerate(texts)
    ]
    delta.append(
        spark,
        warehouse,
        behavior_events.TABLE,
        spark.createDataFrame(rows, behavior_events.TABLE.spark_schema()),
    )


def settings_file(folder: Path, engine: str) -> str:
    file = folder / "engine.yaml"
    file.write_text(f"engine: {{{engine}}}\nspark: {{driver_memory: 1g}}\n", encoding="utf-8")
    return str(file)


def vectors(warehouse: str) -> dict[str, list[float]]:
    """The table's vectors by text_key; fails where a key has two."""
    if not DeltaTable.is_deltatable(f"{warehouse}/text_embeddings"):
        return {}
    rows = rows_of(warehouse, "text_embeddings")
    found = {row["text_key"]: row["vector"] for row in rows}
    assert len(found) == len(rows)
    return found
