"""What is read of a warehouse without Spark: the publication that readers see, and the tables' addresses."""

import shutil
from pathlib import Path

import pytest

from jobs.io.messages import JobError
from jobs.io.reading import one_line, open_table, published_versions, run_rows, table_uri
from schemas import items, pipeline_runs
from tests.builders import row, store_without_spark


def publication(number, version, status="published", **more):
    named = {"sequence": number, "output_versions": {"items": version}}
    return row(pipeline_runs.TABLE, job="publish_run", status=status, **named, **more)


@pytest.fixture
def warehouse(tmp_path):
    return str(tmp_path)


def test_the_publication_with_the_highest_number_counts_in_whatever_order_rows_are_stored(warehouse):
    assert published_versions(warehouse) == {} and run_rows(warehouse) == []
    store_without_spark(warehouse, pipeline_runs.TABLE, [publication(9, 2, run_id="b")])
    store_without_spark(warehouse, pipeline_runs.TABLE, [publication(5, 1, run_id="a")])
    assert published_versions(warehouse) == {"items": 2}
    store_without_spark(warehouse, pipeline_runs.TABLE, [publication(10, 0, status="undone", run_id="b")])
    assert published_versions(warehouse) == {"items": 1}


def test_of_publications_of_one_number_the_same_one_always_counts(warehouse):
    rows = [publication(1, 7, run_id="b"), publication(1, 3, run_id="a")]
    store_without_spark(warehouse, pipeline_runs.TABLE, rows)
    assert published_versions(warehouse) == {"items": 7}


def test_what_cannot_be_read_is_one_sentence(warehouse):
    with pytest.raises(JobError, match=r"^/.*/items can't be read: [^\n]*$"):
        open_table(warehouse, "items")
    assert one_line(OSError("no\n  \x1b[31m↳\x1b[0m way")) == "no ↳ way"


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("s3a://bucket/w", "s3://bucket/w/items"),
        ("s3://s3a://x", "s3://s3a://x/items"),
        ("gs://bucket/w", "gs://bucket/w/items"),
        ("/data/w", "/data/w/items"),
    ],
)
def test_an_address_of_spark_is_given_in_the_scheme_of_deltalake(address, uri):
    assert table_uri(address, "items") == uri


def test_a_published_version_that_was_lost_is_one_sentence_that_says_so(warehouse):
    for number in range(3):
        store_without_spark(warehouse, items.TABLE, [row(items.TABLE, item_id=str(number))])
    assert open_table(warehouse, "items", 1).version() == 1
    (Path(warehouse) / "items" / "_delta_log" / f"{2:020}.json").unlink()
    lost = r"^/.*/items no longer has its published version 2: newest commits are lost; run [^\n]*$"
    with pytest.raises(JobError, match=lost):
        open_table(warehouse, "items", 2)
    assert open_table(warehouse, "items", 1).version() == open_table(warehouse, "items").version() == 1
    shutil.rmtree(Path(warehouse) / "items")
    with pytest.raises(JobError, match=lost):
        open_table(warehouse, "items", 2)
