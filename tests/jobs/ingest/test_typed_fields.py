"""What an expression gives as its field's type: the same value, or a record of the wrong type."""

import json
from datetime import date

from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.ingest.items import catalogue_rows
from jobs.ingest.records import map_records, typed_fields
from jobs.io import logs
from schemas.mapping import parse_mapping
from schemas.settings import IngestSettings
from tests.jobs.records import only_source

WRONG = "of the wrong type"
STRING, INT, DOUBLE = T.StringType(), T.IntegerType(), T.DoubleType()
LIST, TEXT_MAP = T.ArrayType(STRING), T.MapType(STRING, STRING)
# (what an expression gives, the field's type, what is stored).
GIVEN = [
    ("'007'", STRING, "007"),
    ("7L", STRING, "7"),
    ("12345678D", STRING, "12345678"),
    ("9007199254740992D", STRING, "9007199254740992"),
    ("1e16D", STRING, WRONG),
    ("1e300D", STRING, WRONG),
    ("7.5D", STRING, WRONG),
    ("-0D", STRING, "0"),
    ("double('NaN')", STRING, WRONG),
    ("16777216F", STRING, "16777216"),
    ("33554432F", STRING, WRONG),
    ("7.00BD", STRING, "7"),
    ("7.25BD", STRING, WRONG),
    ("parse_json('7')", STRING, "7"),
    ("parse_json('7.0')", STRING, "7"),
    ("parse_json('7.5')", STRING, WRONG),
    ("parse_json('1e300')", STRING, WRONG),
    ("parse_json('true')", STRING, WRONG),
    ("parse_json('[\"a\"]')", STRING, WRONG),
    ('parse_json(\'{"id":"7"}\')', STRING, WRONG),
    ("parse_json('null')", STRING, None),
    ("named_struct('id', '7')", STRING, WRONG),
    ("array('7')", STRING, WRONG),
    ("true", STRING, WRONG),
    ("timestamp'2025-04-01 10:00:00'", STRING, WRONG),
    ("date'2025-04-01'", STRING, WRONG),
    ("NULL", STRING, None),
    ("CASE WHEN id < 0 THEN 1.5D END", STRING, None),
    ("'12.50'", DOUBLE, 12.5),
    ("'12,50'", DOUBLE, WRONG),
    ("' '", DOUBLE, None),
    ("try_cast('12,50' AS DOUBLE)", DOUBLE, None),
    ("parse_json('\"12,50\"')", DOUBLE, WRONG),
    ("19.99BD", DOUBLE, 19.99),
    ("9007199254740993L", DOUBLE, WRONG),
    ("true", DOUBLE, WRONG),
    ("60L", INT, 60),
    ("4.0D", INT, 4),
    ("4.7D", INT, WRONG),
    ("4.7BD", INT, WRONG),
    ("'4.7'", INT, WRONG),
    ("3000000000L", INT, WRONG),
    ("'2025-04-01'", T.DateType(), date(2025, 4, 1)),
    ("'2025'", T.DateType(), WRONG),
    ("'2025-04-01T10:00:00Z'", T.DateType(), WRONG),
    ("to_date('01.04.2025', 'dd.MM.yyyy')", T.DateType(), date(2025, 4, 1)),
    ("timestamp'2025-04-01 00:00:00'", T.DateType(), date(2025, 4, 1)),
    ("timestamp'2025-04-01 10:00:00'", T.DateType(), WRONG),
    ("array('a', 'b')", LIST, ["a", "b"]),
    ("array(7D, NULL)", LIST, ["7", None]),
    ("array(7.5D)", LIST, WRONG),
    ("array()", LIST, []),
    ("parse_json('[\"a\", 7.0]')", LIST, ["a", "7"]),
    ("parse_json('[true]')", LIST, WRONG),
    ("map('price', 7.5D, 'tax', NULL)", TEXT_MAP, {"price": "7.5", "tax": None}),
    ("map('new', true)", TEXT_MAP, {"new": "true"}),
    ("parse_json('{\"price\": 7.5}')", TEXT_MAP, {"price": "7.5"}),
]


def test_what_an_expression_gives_is_taken_over_unchanged_or_not_at_all(spark):
    expressions = {f"c{n}": expression for n, (expression, _, _) in enumerate(GIVEN)}
    types = {f"c{n}": type_ for n, (_, type_, _) in enumerate(GIVEN)}
    records = spark.range(1)
    fields, unfit = typed_fields(records, expressions, types)
    wrong = [F.coalesce(unfit.get(name, F.lit(False)), F.lit(False)).alias(f"{name} wrong") for name in types]
    row = records.select(*[column.alias(name) for name, column in fields.items()], *wrong).first()
    found = [
        (expression, WRONG if row[f"c{n} wrong"] else row[f"c{n}"])
        for n, (expression, _, _) in enumerate(GIVEN)
    ]
    assert found == [(expression, value) for expression, _, value in GIVEN]
    assert all(row[f"c{n}"] is None for n in range(len(GIVEN)) if row[f"c{n} wrong"])


def test_types_that_fit_are_not_looked_at(spark):
    records = spark.createDataFrame([], "a string, n bigint, m map<string,string>, l array<string>, d double")
    types = {"a": STRING, "n": STRING, "m": TEXT_MAP, "l": LIST, "d": DOUBLE, "none": STRING}
    fields, unfit = typed_fields(records, {name: name for name in "anmld"}, types)
    assert fields.keys() == types.keys() and not unfit


FIELDS = {"user_id": "who", "event_ts": "'2025-04-01T10:00:00Z'", "event_type": "'view'", "item_id": "'i'"}


def mapping(fields, columns, **more):
    source = {"format": "csv", "columns": columns}
    return parse_mapping(json.dumps({"source": source, "fields": fields} | more), "m")


def rows_of_columns(spark, rows, columns):
    added = {name: F.lit(None).cast("string") for name in logs.ADDED} | {
        logs.LOG_DATE: F.lit(date(2025, 4, 1))
    }
    schema = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return spark.createDataFrame(rows, schema).withColumns(added)


def test_the_first_field_that_does_not_fit_is_named(spark):
    columns = {"who": "double", "price": "string"}
    one = only_source(mapping(FIELDS | {"value": "price"}, columns))
    records = rows_of_columns(spark, [(7.0, "12.5"), (7.5, "12,50"), (8.0, "12,50"), (9.0, None)], columns)
    mapped = map_records(records, one, spark).select("user_id", "value", "wrong_type").collect()
    assert [tuple(row) for row in mapped] == [
        ("7", 12.5, None),
        (None, None, "user_id"),
        ("8", None, "value"),
        ("9", None, None),
    ]


def test_a_row_of_a_catalogue_too(spark):
    columns = {"id": "double", "since": "string"}
    items = {"source": {"format": "csv", "columns": columns}}
    items["fields"] = {"item_id": "id", "title": "'Kettle'", "valid_from": "since"}
    source = mapping(FIELDS, {"who": "string"}, items=items).items
    rows = [(7.0, "2025-04-01"), (8.0, "2025"), (9.5, " "), (10.0, " ")]
    found = catalogue_rows(rows_of_columns(spark, rows, columns), source, IngestSettings())
    assert [tuple(row) for row in found.select("item_id", "valid_from", "reason").collect()] == [
        ("7", date(2025, 4, 1), None),
        ("8", None, "item_bad_valid_from"),
        (None, None, "item_wrong_type"),
        ("10", None, None),
    ]
