"""Ids are found wherever a file holds them, and nowhere else: against a plain search of every text."""

import io
import re
import string

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs import traces
from udfs.traces import OUTPUT_SCHEMA, Ids, Needles, count_raw, scan, scan_stream

ALPHABET = "ab1-\0"
words = st.text(ALPHABET, min_size=5, max_size=8).filter(lambda word: "\0" not in word)


def plain_count(text: str, ids: set[str]) -> int:
    """How often one of the ids stands alone, by one expression for each place and id."""
    alone = [re.compile(rf"(?<![a-z0-9]){re.escape(id_)}(?![a-z0-9])") for id_ in ids]
    return sum(bool(one.match(text, at)) for one in alone for at in range(len(text)))


@given(st.text(ALPHABET, max_size=60), st.sets(words, max_size=4))
def test_needles_are_counted_as_by_a_plain_search(text, ids):
    needles = Needles(frozenset(id_.encode() for id_ in ids))
    assert needles.count(text.encode()) == plain_count(text, ids)


@given(st.text(ALPHABET, max_size=60), st.sets(words, min_size=1, max_size=4), st.integers(1, 30))
def test_where_a_file_is_cut_into_blocks_changes_nothing(text, ids, block):
    needles = Needles(frozenset(id_.encode() for id_ in ids))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(traces, "BLOCK", block)
        size, found = count_raw(io.BytesIO(text.encode()), needles)
    assert (size, found > 0) == (len(text), plain_count(text, ids) > 0)


def parquet(columns: dict[str, pa.Array], **how: object) -> io.BytesIO:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, **how)
    stream.seek(0)
    return stream


def found(stream: io.BytesIO, *ids: str, is_of_others: bool = True) -> tuple[int, int]:
    result = scan(stream, is_of_others, Ids(frozenset(ids)))
    return result["hits"], result["mentions"]


USERS = pa.array([*(f"user-{n}" for n in range(2000)), "anneliese"])


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_a_user_is_found_under_any_compression(compression, dictionary):
    how = {"compression": compression, "use_dictionary": dictionary}
    assert found(parquet({"user_id": USERS}, **how), "anneliese")[0] >= 1
    assert found(parquet({"user_id": USERS}, **how), "annelies") == (0, 0)


@pytest.mark.parametrize("id_", ["7", "17850", "zoé", "an", "x" * 300])
def test_a_short_id_is_found_among_users_alone(id_):
    assert found(parquet({"user_id": pa.array([id_, "other"])}), id_)[0] >= 1
    assert found(parquet({"companions": pa.array([["other", id_], None])}), id_)[0] >= 1
    if len(id_) < traces.SHORTEST or id_.isdecimal():
        assert found(parquet({"item_id": pa.array([id_])}), id_) == (0, 0)


NESTED = {
    "map": pa.array([[("k", "by anneliese")]], pa.map_(pa.string(), pa.string())),
    "key": pa.array([[("anneliese", "v")]], pa.map_(pa.string(), pa.string())),
    "list": pa.array([["x", "anneliese"]]),
    "struct": pa.array([{"event_id": "shop-anneliese-1", "weight": 1.0}]),
    "structs": pa.array([[{"event_id": "anneliese", "weight": 1.0}]]),
    "large": pa.array(["anneliese"], pa.large_string()),
    "text": pa.array(["thanks, anneliese!"]),
}


@pytest.mark.parametrize("kind", NESTED)
def test_an_id_in_a_text_of_any_column_is_a_mention_where_others_write_and_a_hit_elsewhere(kind):
    columns = {kind: NESTED[kind], "user_id": pa.array(["other"])}
    hits, mentions = found(parquet(columns), "anneliese")
    assert hits == 0 and mentions == 1
    assert found(parquet(columns), "anneliese", is_of_others=False)[0] >= 1


def test_vectors_are_not_decoded_and_texts_in_front_of_each_other_make_no_id():
    columns = {"vector": pa.array([[1.0, 2.0]]), "item_id": pa.array(["anne"]), "text": pa.array(["liese"])}
    assert found(parquet(columns), "anneliese") == (0, 0)
    assert found(parquet({"text": pa.array(["anne", "liese"])}), "anneliese") == (0, 0)


def test_bytes_that_no_column_has_are_a_hit():
    stream = parquet({"user_id": pa.array(["other"])})
    noted = pa.table({"user_id": ["other"]}).replace_schema_metadata({"note": "of anneliese"})
    beside = io.BytesIO()
    pq.write_table(noted, beside)
    beside.seek(0)
    assert found(stream, "anneliese") == (0, 0)
    # Arrow keeps its schema in base64 too; the note stands in the footer as it is.
    assert found(beside, "anneliese")[0] == 1


def test_a_log_is_searched_as_it_stands():
    line = b'{"add":{"stats":"{\\"minValues\\":{\\"user_id\\":\\"anneliese\\"}}"}}\n'
    assert found(io.BytesIO(line), "anneliese") == (1, 0)
    assert found(io.BytesIO(line.replace(b"anneliese", b"other")), "anneliese") == (0, 0)


def test_a_parquet_file_that_cannot_be_read_is_a_hit():
    assert found(io.BytesIO(b"PAR1" + bytes(40)), "anneliese") == (1, 0)


def test_a_stream_of_files_gives_a_row_for_each(tmp_path):
    (tmp_path / "a.json").write_text("anneliese", encoding="utf-8")
    files = [
        {"folder": "log", "path": str(tmp_path / name), "is_of_others": False} for name in ("a.json", "b")
    ]
    batch = pa.RecordBatch.from_pylist(files, traces.INPUT_SCHEMA)
    (rows,) = scan_stream([batch], Ids(frozenset(["anneliese"])))
    assert rows.schema == OUTPUT_SCHEMA
    # The second was removed between the listing and the scan.
    assert [(row["bytes"], row["hits"]) for row in rows.to_pylist()] == [(9, 1), (0, 0)]


def test_many_ids_are_found_in_one_pass():
    ids = {f"{letter}{n:04}" for letter in string.ascii_lowercase for n in range(400)}
    text = " ".join(sorted(ids)).encode()
    assert Needles(frozenset(id_.encode() for id_ in ids)).count(text) == len(ids)
