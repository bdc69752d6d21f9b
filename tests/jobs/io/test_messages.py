"""What goes wrong inside a worker is told in the sentence of the code that stopped it, not in Spark's account of it."""

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


def test_the_engines_own_sentence_is_found(spark):
    error = caught(spark, EngineError("vLLM could not load some-model: no such weights"))
    assert worker_sentence(error) == one_sentence(error) == "vLLM could not load some-model: no such weights"


def test_an_error_of_other_code_stays_what_it_is(spark):
    assert worker_sentence(caught(spark, ValueError("a bug"))) is None
