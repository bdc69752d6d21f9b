"""The analyst's command on a small warehouse: whole tables, what exists, own files, and what goes wrong."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs import query_tables
from schemas import behavior_events, items, pipeline_runs, user_profiles
from schemas.all_tables import ALL_TABLES
from tests.builders import neutral, row, store_without_spark

NOON = datetime(2025, 3, 3, 12, tzinfo=UTC)


def full_row(table):
    """A row with a value in every column, so that each type is read."""
    values = {column.name: neutral(column.type) for column in table.columns}
    for name in ("extra", "attributes", "counts", "seconds"):
        if name in values:
            values[name] = {"key": 1} if name in ("counts", "seconds") else {"key": "value"}
    if "contributions" in values:
        values["contributions"] = [{"event_id": "e", "weight": 0.5}, {"event_id": None, "weight": None}]
    return values


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory):
    """Every declared table with a row of NULLs where they may be, and one without any; published at once."""
    folder = str(tmp_path_factory.mktemp("w"))
    for table in ALL_TABLES:
        rows = [{**full_row(table), **row_without_lists(table)}, full_row(table)]
        if table is not pipeline_runs.TABLE:
            store_without_spark(folder, table, rows)
    versions = {table.name: 0 for table in ALL_TABLES if table is not pipeline_runs.TABLE}
    publication = {"status": "published", "started": NOON, "ended": NOON, "output_versions": versions}
    runs = [publication, {"status": "started"}]
    store_without_spark(folder, pipeline_runs.TABLE, [row(pipeline_runs.TABLE, **run) for run in runs])
    drifts = [("low", 0.1), ("high", 0.9)]
    more = [full_row(user_profiles.TABLE) | {"user_id": user, "drift": drift} for user, drift in drifts]
    store_without_spark(folder, user_profiles.TABLE, more)
    return folder


def row_without_lists(table):
    return {name: value for name, value in row(table).items() if value is None}


@pytest.fixture
def ask(warehouse, capsys):
    def run(sql, *more):
        assert query_tables.main(["--warehouse", warehouse, *more, sql]) == 0
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def refused(warehouse, capsys):
    def run(sql, *more):
        assert query_tables.main(["--warehouse", warehouse, *more, sql]) == 1
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.name)
def test_every_declared_table_can_be_selected_whole(table, ask):
    sql = f"SELECT * FROM {table.name}"  # noqa: S608 - a declared name
    head, *rows = ask(sql)
    assert head.split() == table.names
    assert len([row for row in rows if not row.startswith("(cells with …")]) == 2
    found = [json.loads(line) for line in ask(sql, "--jsonl")]
    assert len(found) == 2 and all(list(values) == table.names for values in found)
    for column in table.columns:
        if column.nullable:
            assert any(values[column.name] is None for values in found)


def test_types_are_shown_as_they_are(ask):
    sql = (
        "SELECT utc_offset_min, event_ts, event_date, companions, extra FROM behavior_events ORDER BY rating"
    )
    assert ask(sql) == [
        "utc_offset_min  event_ts                   event_date  companions  extra",
        '             1  2025-03-03 12:00:00+00:00  2025-03-03  ["x"]       {"key": "value"}',
        "          NULL  2025-03-03 12:00:00+00:00  2025-03-03  NULL        NULL",
    ]


@pytest.mark.parametrize(("direction", "users"), [("ASC", ["low", "high"]), ("DESC", ["high", "low"])])
def test_null_comes_last_in_both_directions(direction, users, ask):
    sql = "SELECT user_id, drift FROM user_profiles WHERE drift IS NULL OR drift < 1 ORDER BY drift "
    shown = [line.split() for line in ask(sql + direction, "--newest")[1:]]
    assert [words[0] for words in shown] == [*users, "x"] and shown[-1][1] == "NULL"


def test_readers_see_the_published_version(ask):
    assert ask("SELECT count(*) AS n FROM user_profiles") == ["n", "2"]
    assert ask("SELECT count(*) AS n FROM user_profiles", "--newest") == ["n", "4"]


def test_tables_and_columns_are_listed(ask, tmp_path):
    file = tmp_path / "companies.csv"
    file.write_text("id,size\n007,3\n", encoding="utf-8")
    shown = ask("show tables;", "--with", f"company={file}")
    assert [line.split()[0] for line in shown] == ["table", *(t.name for t in ALL_TABLES), "company"]
    assert shown[1].split()[1:3] == ["0", "2"] and shown[1].endswith(behavior_events.TABLE.comment)
    newest = {line.split()[0]: line.split()[1:3] for line in ask("SHOW TABLES", "--newest")}
    assert newest["user_profiles"] == ["1", "4"]
    columns = ask("DESC Items")
    assert columns[0].split() == ["column", "type", "null", "meaning"]
    assert len(columns) == 1 + len(items.TABLE.columns)
    assert columns[5].split()[:4] == ["attributes", "map<string,string>", "yes", "further"]
    assert [line.split() for line in ask("DESCRIBE company", "--with", f"company={file}")[1:]] == [
        ["id", "string", "yes"],
        ["size", "int64", "yes"],
    ]


def test_an_own_file_is_joined(ask, tmp_path):
    file = tmp_path / "it's companies.csv"
    file.write_text("item_id,Company\nx,Acme\n", encoding="utf-8")
    sql = 'SELECT DISTINCT "Company" FROM items JOIN makers USING (item_id)'
    assert ask(sql, "--with", f"Makers={file}") == ["Company", "Acme"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["items={0}"], "items is a table of the warehouse; give the file another name"),
        (["a={0}", "A={0}"], "two files are given as a"),
        (["a={0}.gone"], "none of"),
        (["a={1}"], "can't be read"),
    ],
)
def test_a_wrong_file_is_one_sentence_and_bad_arguments(files, told, tmp_path, capsys):
    good, bad = tmp_path / "a.csv", tmp_path / "b.csv"
    good.write_text("a\n1\n", encoding="utf-8")
    bad.write_text("a\n1,2\n", encoding="utf-8")
    given = [word for file in files for word in ("--with", file.format(good, bad))]
    with pytest.raises(SystemExit) as exit_:
        query_tables.main(["--warehouse", str(tmp_path), *given, "SELECT 1"])
    error = capsys.readouterr().err
    assert exit_.value.code == 2 and told in error and error.count("\n") == 1


def test_what_is_not_a_query_is_refused_and_writes_nothing(refused, tmp_path):
    file = tmp_path / "out.csv"
    for sql in (f"COPY items TO '{file}'", f"SELECT 1; COPY items TO '{file}'", "DROP TABLE items"):
        assert refused(sql).count("\n") == 1
    assert not file.exists()
    assert "No field named nope" in refused("SELECT nope FROM items")
    assert "there is no table nope" in refused("DESCRIBE nope")
    assert "\x1b" not in refused("SELECT CAST(chr(27) AS INT) FROM items")


def test_a_cut_answer_says_how_to_see_all(ask):
    long = "SELECT repeat('a', 100) AS text FROM range(1, 202)"
    shown = ask(long)
    assert len(shown) == 103 and shown[-2] == "... and 101 rows more" and "--jsonl" in shown[-1]
    whole = ask(long, "--jsonl")
    assert len(whole) == 201 and json.loads(whole[-1]) == {"text": "a" * 100}


def test_a_missing_table_is_reported_with_those_that_exist(tmp_path, capsys):
    for table in (pipeline_runs.TABLE.name, items.TABLE.name):
        write_deltalake(str(tmp_path / table), pa.table({"status": ["done"], "ended": [0]}))
    arguments = ["--warehouse", str(tmp_path), "--newest"]
    assert query_tables.main([*arguments, "SELECT * FROM rejected_texts"]) == 1
    sentence = "there is no table rejected_texts here, or nothing in it yet; there are items, pipeline_runs"
    assert capsys.readouterr().err == f"query_tables: {sentence}\n"
    assert query_tables.main([*arguments, "SELECT status FROM items"]) == 0


def test_where_nothing_is_published_it_says_so(tmp_path, capsys):
    assert query_tables.main(["--warehouse", str(tmp_path), "SHOW TABLES"]) == 1
    assert "nothing is published (--newest shows tables that are not)" in capsys.readouterr().err
