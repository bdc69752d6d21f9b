"""Unsound vectors: Delta refuses each by the check declared for it."""

from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.sql import SparkSession

from schemas import text_embeddings
from tests.builders import row, store


def embedding(vector: list[float | None] | None, dim: int = 3) -> dict[str, Any]:
    return row(text_embeddings.TABLE, dim=dim, vector=vector)


@pytest.fixture(scope="module")
def embeddings(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A warehouse whose text_embeddings has one sound vector, and still only that one after the tests."""
    warehouse = str(tmp_path_factory.mktemp("embeddings"))
    path = store(spark, warehouse, text_embeddings.TABLE, [embedding([0.6, 0.0, -0.8])])
    yield warehouse
    assert spark.read.format("delta").load(path).count() == 1


@pytest.mark.parametrize(
    ("vector", "check"),
    [
        ([0.1, float("nan"), 0.1], "vector_finite"),
        ([0.1, float("inf"), 0.1], "vector_finite"),
        ([0.1, float("-inf"), 0.1], "vector_finite"),
        ([0.1, None, 0.1], "vector_finite"),
        ([0.0, 0.0, 0.0], "vector_not_zero"),
        ([0.0, -0.0, 0.0], "vector_not_zero"),
        ([0.1, 0.1], "vector_has_dim"),
    ],
    ids=["nan", "inf", "minus_inf", "null", "zero", "minus_zero", "wrong_size"],
)
def test_an_unsound_vector_is_refused_by_its_check(spark, embeddings, vector, check):
    with pytest.raises(Exception, match=f"(?i){check}"):
        store(spark, embeddings, text_embeddings.TABLE, [embedding(vector)])


def test_an_empty_vector_is_refused(spark, embeddings):
    with pytest.raises(Exception, match=r"(?i)vector_(not_zero|finite)"):
        store(spark, embeddings, text_embeddings.TABLE, [embedding([], dim=0)])


def test_a_missing_vector_is_refused(spark, embeddings):
    with pytest.raises(Exception, match=r"(?i)not.null|vector_(has_dim|finite)"):
        store(spark, embeddings, text_embeddings.TABLE, [embedding(None)])
