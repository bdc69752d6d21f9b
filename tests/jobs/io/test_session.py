"""What a session keeps of a job that is over."""

from jobs.io.session import letting_go


def kept(spark) -> set[int]:
    return set(spark.sparkContext._jsc.getPersistentRDDs())


def test_held_rows_are_let_go_and_others_are_not(spark):
    earlier, cached = spark.range(10).localCheckpoint(), spark.range(5).persist()
    cached.count()
    before = kept(spark)
    with letting_go(spark):
        held = spark.range(20).localCheckpoint(eager=False)
        assert held.count() == 20 and len(kept(spark) - before) == 1
    assert kept(spark) == before and earlier.count() == 10
    cached.unpersist()
