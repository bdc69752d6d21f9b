"""Plain JSON lines, read as texts, give what their variants give."""

import json
import random
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.io.formats import declared_types, is_plain_json, parts
from jobs.io.logs import SOURCE_FILE, read_days
from schemas.mapping import THE_DAY, Source, parse_mapping, shipped_mapping

COLUMNS = {
    "id": "string",
    "na.me": "string",
    "whole": "bigint",
    "small": "int",
    "real": "double",
    "exact": "decimal(9,3)",
    "yes": "boolean",
    "at": "timestamp",
    "on": "date",
    "tags": "array<string>",
    "more": "map<string,string>",
    "inner": "struct<a: string, b: double>",
    "any": "variant",
}
SOURCE = Source(format="json", columns=COLUMNS)
# Values as they stand in a line; `{}` is a number that makes each its own.
VALUES = [
    *['"{}"', '"text, {}: x"', '"7.0"', '"true"', '" "', '""', '"{{not}}"', '"[1]"', '"12e3"', '"null"'],
    *['"a\\"b{}"', '"back\\\\"', '"line\\nend"', '"caf\\u00e9"', '"\\u4e66{}"', '"half \\ud83d"', '"Ünï {}"'],
    *["0", "{}", "-{}", "-0", "-0.0", "-0.5", "0.5", "{}.0", "{}.25", "{}.123456", "12345678901234567"],
    *["123456789012345678901234567890", "1e3", "1.5E-2", "007", "1.", ".5", "+1", "NaN", "true", "false"],
    *["null", "nul", "[]", "{{}}", '["a","b"]', "[1, true]", '[["a"]]', '{{"k": "v"}}', '{{"k": 7.0}}'],
    *['{{"a": "x", "b": 1.5}}', '{{"id": "inner"}}', '"2025-04-01"', '"2025-04-01T10:00:00+02:00"'],
    *["1743501600", "1743501600.5", "1743501600123", '"1743501600"', "'single'", '"open', "/* no */ 1"],
]
NAMES = [*COLUMNS, "unmapped", "i\\u0064", "ID", 'quo\\"ted']
# A record that is plain in no way, beside which no other is read as plain.
MIXED = '{"unmapped": [[1]]}'


def drawn_line(rng: random.Random, number: int) -> str:
    names = [rng.choice(NAMES) for _ in range(rng.randrange(1, 7))]
    fields = [f'"{name}"{rng.choice([":", ": ", " :"])}{rng.choice(VALUES)}' for name in names]
    line = "{{" + rng.choice([",", ", "]).join(fields) + "}}"
    line = line.format(*[number % 97] * len(fields))
    return rng.choices(
        [line, line + " ", line + ",", line + line, "[" + line + "]", line[:-1]], [9, 1, 1, 1, 1, 1]
    )[0]


@pytest.fixture(scope="module")
def plain_lines(spark: SparkSession) -> DataFrame:
    rng = random.Random(11)
    drawn = sorted({drawn_line(rng, number) for number in range(6000)})
    frame = spark.createDataFrame([(line,) for line in drawn], "line string").coalesce(1)
    return frame.where(is_plain_json(F.col("line"), declared_types(SOURCE)))


def records(spark: SparkSession, root: Path, lines: list[str], beside: list[str]) -> list[str]:
    """What is read of the lines, in a file of its own, without what is read of those beside them."""
    folder = root / "dt=2025-04-01"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "b.jsonl").write_text("\n".join(beside), encoding="utf-8")
    read = read_days(spark, SOURCE, [str(folder)], str(root))
    own = read.where(F.endswith(F.col(f"`{SOURCE_FILE}`"), F.lit("a.jsonl")))
    return sorted(str(row) for row in own.collect())


def kind_of_id(spark: SparkSession, folder: Path) -> str:
    """The type in which the reader gives the column id."""
    read = parts(spark, SOURCE, {str(folder): sorted(map(str, folder.glob("*.jsonl")))})
    return read[0].schema["id"].dataType.simpleString()


def test_plain_lines_read_as_texts_give_what_their_variants_give(
    spark: SparkSession, plain_lines: DataFrame, tmp_path: Path
) -> None:
    plain = [row["line"] for row in plain_lines.collect()]
    assert len(plain) > 500
    as_texts = records(spark, tmp_path / "plain", plain, [])
    assert kind_of_id(spark, tmp_path / "plain/dt=2025-04-01") == "string"
    as_variants = records(spark, tmp_path / "mixed", plain, [MIXED])
    assert as_texts == as_variants


@pytest.mark.parametrize(
    "line", ['{"id": 7.0}', '{"id": true}', r'{"id": "\ud83d"}', '{"id": "a"} {"id": "b"}']
)
def test_one_line_that_is_not_plain_has_its_folder_read_as_variants(
    spark: SparkSession, tmp_path: Path, line: str
) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a"}\n' + line)
    assert kind_of_id(spark, tmp_path) == "variant"


@pytest.mark.parametrize(
    ("value", "kind", "title"),
    [
        ('{"title": "Shoes"}', "OBJECT<title: STRING>", "Shoes"),
        ("7", "BIGINT", None),
        ("7.5", "DECIMAL(2,1)", None),
        ("true", "BOOLEAN", None),
        ("null", "VOID", None),
        ("[1]", "ARRAY<BIGINT>", None),
        ('"7"', "STRING", None),
    ],
)
def test_a_variant_is_the_same_whatever_lines_lie_beside_it(
    spark: SparkSession, tmp_path: Path, value: str, kind: str, title: str | None
) -> None:
    for number, beside in enumerate(([], [MIXED])):
        folder = tmp_path / f"{number}/dt=2025-04-01"
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_text("\n".join([f'{{"id": "a", "any": {value}}}', *beside]))
        read = read_days(spark, SOURCE, [str(folder)], str(folder.parent)).where("id = 'a'")
        told = read.select(F.schema_of_variant("any"), F.try_variant_get("any", "$.title", "string"))
        assert [tuple(row) for row in told.collect()] == [(kind, title)]


def test_canonical_lines_are_plain(spark: SparkSession, tmp_path: Path) -> None:
    mapping = parse_mapping(shipped_mapping("canonical") or "", "canonical")
    (tmp_path / "a.jsonl").write_text(
        '{"event_id": "e1", "event_ts": "2025-04-01T10:00:00Z", "rating": 4.5}\n'
    )
    source = mapping.sources[THE_DAY].source
    read = parts(spark, source, {str(tmp_path): [str(tmp_path / "a.jsonl")]})
    assert read[0].schema["event_ts"].dataType.simpleString() == "string"
    # As long as a plain line may be, with as many fields as it can have.
    long = spark.createDataFrame([("{" + '"a":1,' * 1330 + '"event_ts":""}',)], "line string")
    assert long.where(is_plain_json(F.col("line"), declared_types(source))).count() == 1


def test_a_line_of_many_fields_is_no_trouble(spark: SparkSession, tmp_path: Path) -> None:
    line = json.dumps({f"k{number}": "v" for number in range(200_000)} | {"id": "u"})
    escaped = json.dumps({"id": "\n" * 200_000})
    assert len(records(spark, tmp_path, [line, escaped], [])) == 2
