"""Questions to Spark's analyzed plans."""

from pyspark.sql import DataFrame

from jobs.io.storage import jvm


def is_deterministic(rows: DataFrame) -> bool:
    """Whether a query gives the same rows every time: without random functions and without the clock."""
    plan = rows._jdf.queryExecution().analyzed()
    patterns = jvm(rows.sparkSession).org.apache.spark.sql.catalyst.trees.TreePattern
    return bool(plan.deterministic()) and not plan.containsPattern(patterns.CURRENT_LIKE())


def names_used(rows: DataFrame) -> set[str]:
    """The names of the columns that the last step of a query reads."""
    attributes = rows._jdf.queryExecution().analyzed().references().toSeq()
    return {str(attributes.apply(place).name()) for place in range(attributes.size())}
