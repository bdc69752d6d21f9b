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
    "2025-04-01T12Z",
    "2025-04-01T14+02",
    "20250401T14+0200",
    "2025-04-01T08:00:00\u221204:00",
    "2025-04-01T06:30\u221205:30",
    "2025-04-01T14:00:00+02:00[Europe/Paris][u-ca=iso8601]",
    "2025-04-01T12Z[!Europe/Paris]",
    "2025-04-01T12:00 GMT",
    "2025-04-01T14:00:00 UTC+02:00",
    "2025-04-01T09:00 America/Argentina/Buenos_Aires",
]
ISO_OFFSETS = [120, 120, 120, 120, 120, 0, 0, 0, 0, 0, -330, 120, 120, 120]
ISO_OFFSETS += [0, 120, 120, -240, -330, 120, 0, 0, 120, -180]
# The same in numbers.
UNIX = ["1743508800", "1743508800.0", "1743508800000", "1743508800000000", "1743508800000000000"]
UNIX += ["1.7435088E9", "1.7435088e12", "1.7435088e+09", "1.7435088E18", "+1743508800"]
UNIX += [" 1743508800 ", "1743508800\t"]
TEXTS = ["2025-04-01 12:00:00", "1743508800", "1743508800.0", "1743508800000", "1743508800000000"]


@pytest.mark.parametrize(
    ("values", "zone", "expected"),
    [
        (ISO, None, ISO_OFFSETS),
        # What a value says of itself counts, whatever the zone of the column.
        (ISO, "America/New_York", ISO_OFFSETS),
        (UNIX, None, None),
        (UNIX, "Europe/Berlin", [120] * len(UNIX)),
        (["20250401140000", "202504011400", "20250401140000.0"], "Europe/Berlin", [120] * 3),
        ([20250401140000, 202504011400], "Europe/Berlin", [120] * 2),
        ([20250401140000.0, 202504011400.0], "Europe/Berlin", [120] * 2),
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
        ([1743508800, 1743508800000, 1743508800000000, 1743508800000000000], None, None),
        ([1743508800.0, 1743508800000.0, 1743508800000000000.0], None, None),
        ([1743508800, 1743508800000], "Europe/Berlin", [120, 120]),
        ([NOON.replace(tzinfo=None)], None, None),
    ],
)
def test_a_time_is_recognised_by_its_form(spark, values, zone, expected):
    """expected: the offsets, None without any, [] where no time can be read."""
    assert times_read(spark, values, "when", zone) == at_noon(values, expected)


DAYS_END, MILLION = 1743552000, 1_000_000


@pytest.mark.parametrize(
    ("value", "zone", "at", "offset"),
    [
        ("2025-04-01T24:00:00Z", "Europe/Berlin", DAYS_END * MILLION, 0),
        ("2025-04-01T24Z", None, DAYS_END * MILLION, 0),
        ("20250401T2400+0200", None, (DAYS_END - 7200) * MILLION, 120),
        ("2025-03-30T24:00:00,000+02:00", "Europe/Berlin", (DAYS_END - 2 * 86400 - 7200) * MILLION, 120),
        ("2024-12-31 24:00", "Europe/Berlin", 1735686000 * MILLION, 60),
        ("2025-04-01T23:59:60Z", None, DAYS_END * MILLION - 1, 0),
        ("2025-04-02T05:29:60.5+05:30", None, DAYS_END * MILLION - 1, 330),
        ("20250401T235960Z", None, DAYS_END * MILLION - 1, 0),
        ("-86400", None, -86400 * MILLION, None),
        ("-86400.5", None, -86400 * MILLION - MILLION // 2, None),
        ("-1.7435088e12", None, -1743508800 * MILLION, None),
        (-1743501600090064107, None, -1743501600090065, None),
        ("1743501600090064107", None, 1743501600090064, None),
        # No date and time: the milliseconds of 1976 and of 2612.
        ("200000000000", None, 200000000 * MILLION, None),
        ("202513011000", None, 202513011 * MILLION, None),
        ("20251301100000", None, 20251301100 * MILLION, None),
    ],
)
def test_a_time_is_read_exactly(spark, value, zone, at, offset):
    assert times_read(spark, [value], "when", zone) == [(at, offset)]


@pytest.mark.parametrize("clock", ["2025-04-01T10:00:00 ", "2025-04-01T10:00:00", "2025-04-01 10:00 "])
def test_an_abbreviation_of_a_zone_is_no_zone(spark, clock):
    # Java takes AST for Alaska, BST for Bangladesh, SST for the Solomon Islands.
    names = ["BST", "AST", "SST", "ACT", "NST", "IST", "EST", "PST", "CET", "CST", "MST", "Japan", "EST5EDT"]
    assert times_read(spark, [clock + name for name in names], "when", None) == [(None, None)] * len(names)


def test_forms_without_a_day_of_a_month_and_impossible_times_are_no_times(spark):
    values = ["2025-091T10:00:00Z", "2025-W14-2T10:00:00Z", "2025-04-01T10:00:00[Europe/Paris]"]
    values += ["2025-04-01T24:00:01Z", "2025-04-01T24:30Z", "2025-02-30T24:00Z", "2025-04-01T23:58:60Z"]
    values += ["9999999999999999999", "1e99", "99999999999999999999", "1e3", "1e-9", "+1", "--86400", "1e"]
    assert times_read(spark, values, "when", None) == [(None, None)] * len(values)
    assert times_read(spark, [float("nan"), 1e300, float("inf")], "when", None) == [(None, None)] * 3


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
    block = page.split("noon UTC, with `zone: Europe/Berlin`:")[1].split("\n\n")[1]
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
