"""A small day of records in every format a log comes in, and what an ingest decides about records."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from jobs.ingest.fates import decide_fates, identify, known_identities
from jobs.ingest.privacy import stored_form
from jobs.ingest.reasons import find_reasons
from jobs.ingest.records import read_records
from jobs.io import logs
from schemas import behavior_events
from schemas.mapping import THE_DAY, EventSource, LogMapping, parse_mapping
from schemas.settings import Settings

DAY = "2025-04-01"
ROWS = [
    {
        "user": f"{n:03d}",
        "when": f"{DAY} {n:02d}:15:00",
        "what": "view",
        "item": f"0{n}",
        "words": f'Zoë\'s café, "nº {n}"; a||b',
        "stars": n % 5 + 1,
    }
    for n in range(12)
]
COLUMNS = dict.fromkeys(("user", "when", "what", "item", "words"), "string") | {"stars": "double"}
FIELDS = {
    "user_id": "user",
    "event_ts": "to_timestamp(when, 'yyyy-MM-dd HH:mm:ss')",
    "event_type": "what",
    "item_id": "item",
    "text": "words",
    "rating": "stars",
}


def mapping_of(format_: str, **options: str) -> LogMapping:
    """The mapping of ROWS in a format."""
    source = {"format": format_, "columns": COLUMNS, "options": options}
    scale = {"rating_min": 1, "rating_max": 5, "zone": "Europe/Paris"}
    return parse_mapping(json.dumps({"source": source, "fields": FIELDS, **scale}), "m")


def only_source(mapping: LogMapping) -> EventSource:
    """The only source of a mapping without names."""
    return mapping.sources[THE_DAY]


def with_source(mapping: LogMapping, **changed: Any) -> LogMapping:
    """The mapping of one source with other values of it."""
    return mapping.model_copy(update={"sources": {THE_DAY: only_source(mapping).model_copy(update=changed)}})


def as_json(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(rows: Iterable[Mapping[str, Any]], delimiter: str = ",", header: bool = True) -> str:
    # Python's writer knows only delimiters of one character.
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\x1f", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([[*COLUMNS]] * header + [[row[name] for name in COLUMNS] for row in rows])
    return out.getvalue().replace("\x1f", delimiter)


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def write_day(root: Path, files: Mapping[str, bytes], day: str = DAY) -> None:
    """Writes a closed day folder with these files."""
    for name, content in files.items():
        path = root / f"dt={day}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / f"dt={day}" / "_SUCCESS").touch()


def fated(spark: SparkSession, root: str, mapping: LogMapping, settings: Settings | None = None) -> DataFrame:
    """The records of all day folders with their fates, as in a warehouse without tables."""
    settings = settings or Settings()
    form = stored_form(settings)
    days = logs.day_folders(spark, root)
    known = known_identities(spark.createDataFrame([], behavior_events.TABLE.spark_schema()))
    records = read_records(spark, logs.Logs(root, mapping), days)
    read = identify(form.redact(find_reasons(records, settings))).localCheckpoint()
    return decide_fates(read, known, form.text)
