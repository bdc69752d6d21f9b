"""Erased users are recognised by hash: Spark's HMAC is Python's, and an unfinished erasure is told."""

import hashlib
import hmac
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from jobs.io.erased import NOBODY, ErasedUsers, companions_without, hmac_of, refuse_unfinished_erasure
from jobs.io.messages import JobError
from schemas import erased_users
from tests.builders import row, store

SALT = bytes(range(32))
no_surrogates = st.characters(exclude_categories=["Cs"])


def hashed(user: str, key: bytes = SALT) -> str:
    return hmac.new(key, user.encode(), hashlib.sha256).hexdigest()


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(no_surrogates, max_size=90), min_size=5, max_size=40), st.binary(max_size=64))
def test_the_hash_is_the_hmac_of_rfc_2104(spark, users, key):
    frame = spark.createDataFrame([(user,) for user in [*users, None]], "user string")
    found = [tuple(r) for r in frame.select("user", hmac_of(key, F.col("user"))).collect()]
    assert found == [*((user, hashed(user, key)) for user in users), (None, None)]


def listed(spark, warehouse, *users, rows_gone=True, salt=SALT):
    rows = [
        row(erased_users.TABLE, user_hmac=hashed(u), erased_on=date(2025, 3, 3), rows_gone=rows_gone)
        for u in users
    ]
    path = store(spark, warehouse, erased_users.TABLE, rows)
    if salt is not None:
        spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ('{erased_users.SALT}' = '{salt.hex()}')")


def test_users_are_looked_up_in_their_stored_form(spark, warehouse, warehouse_at):
    listed(spark, warehouse, "ann", "zoé")
    erased = ErasedUsers.of(warehouse_at(warehouse))
    frame = spark.createDataFrame([("ann", 1), ("anna", 2), ("zoé", 3), (None, 4)], "user_id string, n int")
    marked = erased.marked(frame, F.col("user_id"))
    assert marked.columns == ["user_id", "n", "is_erased"]
    assert {r["n"]: r["is_erased"] for r in marked.collect()} == {1: True, 2: False, 3: True, 4: False}


def test_without_a_table_a_salt_or_a_row_nobody_is_erased(spark, warehouse, warehouse_at):
    opened = warehouse_at(warehouse)
    assert ErasedUsers.of(opened) is None
    refuse_unfinished_erasure(opened)
    listed(spark, warehouse, salt=None)
    assert ErasedUsers.of(opened) is None
    refuse_unfinished_erasure(opened)


def test_an_erasure_that_stopped_is_refused_with_what_to_run(spark, warehouse, warehouse_at):
    listed(spark, warehouse, "ann")
    refuse_unfinished_erasure(warehouse_at(warehouse))
    listed(spark, warehouse, "bob", "cid", rows_gone=False)
    told = (
        "erase_users stopped before 2 users were gone from every table; run it again with the same ids first"
    )
    with pytest.raises(JobError, match=told):
        refuse_unfinished_erasure(warehouse_at(warehouse))


def test_names_among_companions_give_place_to_nobody(spark):
    rows = [(["ann", "bob", None], ["ann"]), (None, ["ann"]), ([], ["ann"]), (["anna"], ["ann", "bob"])]
    frame = spark.createDataFrame(rows, "companions array<string>, gone array<string>")
    found = [r[0] for r in frame.select(companions_without("gone")).collect()]
    assert found == [[NOBODY, "bob", None], None, [], ["anna"]]
