"""Event times of any kind against one instant, noon UTC."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import functions as F

from jobs.ingest.records import map_records
from jobs.io import logs
from jobs.io.session import in_zone
from schemas.mapping import EventSource
from tests.conftest import ROOT

NOON = datetime(2025, 4, 1, 12, tzinfo=UTC)
OFFSETS = ["2025-04-01T14:00:00+02:00", "2025-04-01 06:30:00.0-0530", "2025-04-01T12:00:00Z"]
# Noon UTC in the forms of ISO 8601 and of those who take it lightly.
ISO = [
    "2025-04-01T14:00+02:00",
    "2025-04-01T14:00:00+02",
    "2025-04-01T14:00+02",
    "2025-04-01T14:00+0200",
    "2025-04-01T14:00:00,000+02:00",
    "2025-04-01T12:00Z",
    "2025-04-01t12:00:00z",
    "20250401T120000Z",
    "20250401T1200Z",
    "2025-04-01 12:00:00 UTC",
    "2025-04-01T06:30:00.000-05:30",
    "2025-04-01T14:00:00+02:00[Europe/Berlin]",
    "2025-04-01T14:00:00 Europe/Berlin",
    "2025-04-01T14:00:00 +02:00",
]
TEXTS = ["2025-04-01 12:00:00", "1743508800", "1743508800.0", "1743508800000", "1743508800000000"]


@pytest.mark.parametrize(
    ("values", "zone", "expected"),
    [
        (ISO, None, [120, 120, 120, 120, 120, 0, 0, 0, 0, 0, -330, 120, 120, 120]),
        # What a value says of itself counts, whatever the zone of the column.
        (ISO, "America/New_York", [120, 120, 120, 120, 120, 0, 0, 0, 0, 0, -330, 120, 120, 120]),
        (["1743508800", "1743508800000", "1743508800.0"], "Europe/Berlin", [120, 120, 120]),
        (["2025-04-01T14:00", "20250401T140000", " 2025-04-01 14:00:00,0 "], "Europe/Berlin", [120] * 3),
        (OFFSETS, None, [120, -330, 0]),
        (TEXTS, None, None),
        (
            ["12:00", "noon", "1", "2025", "2025-04-01T12:00+19:00", "2025-04-01T25:00Z", "2025-13-01"],
            None,
            [],
        ),
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
    assert times_read(spark, values, "when", zone) == at_noon(values, expected)


def at_noon(values, expected):
    at = (NOON - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) if expected != [] else None
    return [(at, offset) for offset in expected or [None] * len(values)]


@pytest.mark.parametrize(
    ("values", "expression"),
    [
        (
            ["2025-04-01T14:00:00+02:00", "2025-04-01T12:00:00Z"],
            """to_timestamp(when, "yyyy-MM-dd'T'HH:mm:ssXXX")""",
        ),
        (["01.04.2025 14:00"], "to_timestamp(when, 'dd.MM.yyyy HH:mm')"),
        (["2025-04-01 14:00", "2025-04-01 12:00Z"], "CAST(replace(when, 'Z', ':00Z') AS TIMESTAMP)"),
        (["1743508800"], "timestamp_seconds(CAST(when AS BIGINT))"),
        ([NOON.replace(tzinfo=None)], "when"),
        ([1743508800], "CAST(CAST(when AS VARIANT) AS VARIANT)"),
    ],
)
def test_an_expression_reads_local_times_in_the_zone_of_the_mapping(spark, values, expression):
    assert times_read(spark, values, expression, "Europe/Berlin") == at_noon(values, [120] * len(values))


def test_the_examples_of_the_guide_are_one_instant(spark):
    page = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
    block = page.split("noon UTC, with `zone: Europe/Berlin`:")[1].split("Ids keep")[0]
    examples = [text.strip() for text in re.split(r"\s{2,}", block) if text.strip()]
    assert len(examples) > 8
    assert times_read(spark, examples, "when", "Europe/Berlin") == at_noon(
        examples, [0 if text.endswith("Z") else 120 for text in examples]
    )


def times_read(spark, values, expression, zone):
    source = {"format": "json", "columns": {"when": "string"}}
    fields = {"user_id": "'u'", "event_ts": expression, "event_type": "'view'", "item_id": "'i'"}
    mapping = EventSource.model_validate({"source": source, "fields": fields, "zone": zone})
    added = {name: F.lit(None).cast("string") for name in logs.ADDED}
    records = spark.createDataFrame([(value,) for value in values], ["when"]).withColumns(added)
    read = map_records(in_zone(records, zone), mapping, spark).selectExpr(
        "unix_micros(event_ts) AS at", "utc_offset_min"
    )
    return [(row["at"], row["utc_offset_min"]) for row in read.collect()]
