"""A warehouse that holds only events with texts, for tests of the embed stage."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from schemas import behavior_events
from tests.builders import row, store
from tests.e2e.tables import rows_of

DAY = date(2025, 3, 3)


def text_key(text: str) -> str:
    """The key of a text in normal form."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_events(spark: SparkSession, warehouse: str, texts: Sequence[str], day: date = DAY) -> None:
    """Appends one event of one user for each text."""
    table, noon = behavior_events.TABLE, datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    rows = [
        row(table, event_id=f"{day} {i}", event_ts=noon, event_date=day, log_date=day)
        | {"text": text, "text_key": text_key(text)}
        for i, text in enumerate(texts)
    ]
    store(spark, warehouse, table, rows)


def settings_file(folder: Path, engine: str) -> str:
    """A settings file with these engine settings."""
    file = folder / "engine.yaml"
    file.write_text(f"engine: {{{engine}}}\nspark: {{driver_memory: 1g}}\n", encoding="utf-8")
    return str(file)


def vectors(warehouse: str) -> dict[str, list[float]]:
    """The table's vectors by text_key. Fails where a key has two."""
    if not DeltaTable.is_deltatable(f"{warehouse}/text_embeddings"):
        return {}
    rows = rows_of(warehouse, "text_embeddings")
    found = {row["text_key"]: row["vector"] for row in rows}
    assert len(found) == len(rows)
    return found
