"""Every table of a real warehouse, selected whole by every reader: the same rows everywhere."""

import json

import pyarrow as pa
import pytest
from deltalake import QueryBuilder

from jobs import query_tables, show_runs
from jobs.io.reading import open_table, published_versions
from schemas import pipeline_runs
from schemas.all_tables import ALL_TABLES

RUNS = pipeline_runs.TABLE


@pytest.fixture(scope="module")
def warehouse(after_nights) -> str:
    return str(after_nights(2))


@pytest.fixture(scope="module")
def published(warehouse) -> dict[str, int | None]:
    """The version of each table that readers see; the run records have no other than the current one."""
    return {**published_versions(warehouse), RUNS.name: None}


@pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.name)
def test_every_reader_gives_the_same_rows(table, spark, warehouse, published, capsys):
    if table.name not in published:
        pytest.skip("no night of this log wrote it")
    version = published[table.name]
    select = f"SELECT * FROM {table.name}"  # noqa: S608 - a declared name

    def answer(*more):
        capsys.readouterr()
        assert query_tables.main(["--warehouse", warehouse, *more, select]) == 0
        return capsys.readouterr().out.splitlines()

    reader = spark.read.format("delta")
    path = f"{warehouse}/{table.name}"
    by_spark = (reader if version is None else reader.option("versionAsOf", version)).load(path).collect()
    stored = open_table(warehouse, table.name, version)
    by_deltalake = pa.table(QueryBuilder().register("t", stored).execute("SELECT * FROM t")).to_pylist()
    by_query = [json.loads(line) for line in answer("--jsonl")]
    assert len(by_spark) == len(by_deltalake) == len(by_query)
    assert all(list(values) == table.names for values in by_query)
    for key in table.key:
        found = [sorted(map(str, column)) for column in of_key(key, by_spark, by_deltalake, by_query)]
        assert found[0] == found[1] == found[2]
    head, *_ = answer()
    assert head.split() == table.names
    assert len([json.loads(line) for line in answer("--jsonl", "--newest")]) >= len(by_query)


def of_key(key, by_spark, *others):
    yield [row[key] for row in by_spark]
    yield from ([values[key] for values in rows] for rows in others)


def test_the_versions_that_are_shown_are_those_that_are_read(warehouse, published, capsys):
    assert show_runs.main(["--warehouse", warehouse, "--versions"]) == 0
    shown = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert {**{name: int(version) for name, version in shown.items()}, RUNS.name: None} == published
