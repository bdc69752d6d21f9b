"""Only statements that read are run: the engine would write files and read any."""

import pytest
from deltalake import QueryBuilder

from jobs.io.messages import JobError
from jobs.query.statements import bare, described_table, is_show_tables, reading_query


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS insert_count",
        "select 'INSERT INTO; COPY -- /*' AS text;",
        "-- what follows\nWITH a AS (SELECT 1 AS x) SELECT * FROM a; -- done",
        "/* COPY */ VALUES (1), (2) ;",
        'SELECT 1 AS "update"',
        "SELECT 1 -- no semicolon",
    ],
)
def test_a_query_is_run(sql):
    assert QueryBuilder().execute(reading_query(bare(sql))).read_all().num_rows > 0


WRITERS = [
    ("INSERT INTO items VALUES (1)", "INSERT"),
    ("create table t as select 1", "CREATE"),
    ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "CREATE"),
    ("COPY (SELECT 1) TO 'x.csv'", "COPY"),
    ("/* SELECT */ COPY (SELECT 1) TO 'x.csv'", "COPY"),
    ("EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'", "EXPLAIN"),
    ("DROP TABLE items", "DROP"),
    ("SET datafusion.execution.batch_size = 1", "SET"),
    ("PREPARE p AS SELECT 1", "PREPARE"),
    ("DELETE FROM items", "DELETE"),
    ("(SELECT 1); DROP TABLE items", "more than one statement"),
    ("SELECT 1; COPY (SELECT 1) TO 'x.csv'", "more than one statement"),
    ("SELECT * INTO t FROM items", "INTO writes"),
    ("WITH a AS (SELECT 1 AS x) INSERT INTO items SELECT * FROM a", "INSERT writes"),
    ("  ;", "the query is empty"),
    ("-- nothing", "the query is empty"),
]


@pytest.mark.parametrize(("sql", "told"), WRITERS, ids=[sql for sql, _ in WRITERS])
def test_any_other_statement_is_refused_in_one_sentence(sql, told):
    with pytest.raises(JobError, match=told) as error:
        reading_query(bare(sql))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sql", ["COPY (SELECT 1) TO '{}'", "EXPLAIN ANALYZE COPY (SELECT 1) TO '{}'"])
def test_the_engine_takes_nothing_but_a_query_in_parentheses(sql, tmp_path):
    """The last line of defence, for a word that the list of words would miss."""
    file = tmp_path / "x.csv"
    with pytest.raises(Exception, match="Expected: SELECT, VALUES"):
        QueryBuilder().execute(f"({sql.format(file)}\n)")
    with pytest.raises(Exception, match="single SQL statement"):
        QueryBuilder().execute(f"(SELECT 1); {sql.format(file)}; (SELECT 2\n)")
    assert not file.exists()


def test_questions_for_tables_and_columns_are_understood_in_any_case():
    for sql in ("SHOW TABLES", "show\n tables ;", "Show Tables -- all"):
        assert is_show_tables(bare(sql))
    for sql in ("DESCRIBE items", "desc ITEMS;", "Describe Table items", 'DESC "items"'):
        assert described_table(bare(sql)) == "items"
    for sql in ("SHOW COLUMNS FROM items", "DESCRIBE", "DESCRIBE SELECT 1", "SELECT 1"):
        assert not is_show_tables(bare(sql)) and described_table(bare(sql)) is None
