"""The analyst's command where there is nothing to read yet, and the help of the jobs."""

import pyarrow as pa
from deltalake import write_deltalake

from jobs import embed_texts, query_tables, show_runs


def test_a_table_that_is_not_there_is_told_with_those_that_are(tmp_path, capsys):
    for table in ("pipeline_runs", "items"):
        write_deltalake(str(tmp_path / table), pa.table({"status": ["done"], "ended": [0]}))
    arguments = ["--warehouse", str(tmp_path), "--newest"]
    assert query_tables.main([*arguments, "SELECT * FROM rejected_texts"]) == 1
    told = "there is no table rejected_texts here, or nothing in it yet; there are items, pipeline_runs"
    assert capsys.readouterr().err == f"query_tables: {told}\n"
    assert query_tables.main([*arguments, "SELECT status FROM items"]) == 0


def test_help_tells_the_defaults_that_a_person_would_type_and_no_others():
    assert "(default" not in embed_texts.arg_parser().format_help()
    assert "(default: 20)" in show_runs.arg_parser().format_help()
