"""What a session still stores after a job."""

from jobs.io.session import release_checkpoints


def stored(spark) -> set[int]:
    return set(spark.sparkContext._jsc.getPersistentRDDs())


def test_checkpoints_of_a_job_are_released_and_others_stay(spark):
    earlier, cached = spark.range(10).localCheckpoint(), spark.range(5).persist()
    cached.count()
    before = stored(spark)
    with release_checkpoints(spark):
        checkpointed = spark.range(20).localCheckpoint(eager=False)
        assert checkpointed.count() == 20 and len(stored(spark) - before) == 1
    assert stored(spark) == before and earlier.count() == 10
    cached.unpersist()
