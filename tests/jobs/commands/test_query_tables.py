"""The analyst's command where a table does not exist yet."""

import pyarrow as pa
from deltalake import write_deltalake

from jobs import query_tables


def test_a_missing_table_is_reported_with_those_that_exist(tmp_path, capsys):
    for table in ("pipeline_runs", "items"):
        write_deltalake(str(tmp_path / table), pa.table({"status": ["done"], "ended": [0]}))
    arguments = ["--warehouse", str(tmp_path), "--newest"]
    assert query_tables.main([*arguments, "SELECT * FROM rejected_texts"]) == 1
    sentence = "there is no table rejected_texts here, or nothing in it yet; there are items, pipeline_runs"
    assert capsys.readouterr().err == f"query_tables: {sentence}\n"
    assert query_tables.main([*arguments, "SELECT status FROM items"]) == 0
