"""Event times of any kind against one instant, noon UTC."""

from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import functions as F

from jobs.ingest.records import map_records
from jobs.io import logs
from schemas.mapping import LogMapping

NOON = datetime(2025, 4, 1, 12, tzinfo=UTC)
OFFSETS = ["2025-04-01T14:00:00+02:00", "2025-04-01 06:30:00.0-0530", "2025-04-01T12:00:00Z"]
TEXTS = ["2025-04-01 12:00:00", "1743508800", "1743508800.0", "1743508800000", "1743508800000000"]


@pytest.mark.parametrize(
    ("values", "zone", "expected"),
    [
        (OFFSETS, None, [120, -330, 0]),
        (TEXTS, None, None),
        (["12:00", "noon", "1", "2025"], None, []),
        (["2025-04-01 14:00:00"], "Europe/Berlin", [120]),
        (["14:00"], "Europe/Berlin", []),
        ([1743508800, 1743508800000, 1743508800000000], None, None),
        ([1743508800.0, 1743508800000.0], None, None),
        ([1743508800, 1743508800000], "Europe/Berlin", [120, 120]),
        ([NOON.replace(tzinfo=None)], None, None),
    ],
)
def test_a_time_is_recognised_by_its_form(spark, values, zone, expected):
    """expected: the offsets, None without any, [] where no time can be read."""
    source = {"format": "json", "columns": {"when": "string"}}
    fields = {"user_id": "'u'", "event_ts": "when", "event_type": "'view'", "item_id": "'i'"}
    mapping = LogMapping.model_validate({"source": source, "fields": fields, "zone": zone})
    added = {name: F.lit(None).cast("string") for name in logs.ADDED}
    records = spark.createDataFrame([(value,) for value in values], ["when"]).withColumns(added)
    read = map_records(records, mapping).selectExpr("unix_micros(event_ts) AS at", "utc_offset_min")
    found = [(row["at"], row["utc_offset_min"]) for row in read.collect()]
    at = (NOON - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) if expected != [] else None
    assert found == [(at, offset) for offset in expected or [None] * len(values)]
