"""An error inside a Python worker is reported in its own sentence, not with Spark's stack traces."""

import pytest
from pyspark.errors import PySparkException

from jobs.io.messages import one_sentence, worker_sentence
from udfs.errors import EngineError


def failing(error):
    def stop(batches):
        raise error
        yield from batches

    return stop


def caught(spark, error):
    with pytest.raises(PySparkException) as stop:
        spark.range(1).mapInArrow(failing(error), "id bigint").collect()
    return stop.value


def test_the_sentence_of_our_own_error_is_found(spark):
    error = caught(spark, EngineError("vLLM could not load some-model: no such weights"))
    assert worker_sentence(error) == one_sentence(error) == "vLLM could not load some-model: no such weights"


def test_an_error_of_other_code_is_not_shortened_to_a_sentence(spark):
    assert worker_sentence(caught(spark, ValueError("a bug"))) is None
