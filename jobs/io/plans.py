"""Questions to Spark's analyzed plans."""

from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.io.messages import JobError
from jobs.io.storage import jvm


def require_plain(rows: DataFrame, expressions: Mapping[str, str]) -> None:
    """Raises JobError where a user's expression reads other data or does not always give the same answer.

    That is a subquery, refused before Spark looks at what it reads; a random function, the clock, or a call
    of Java.

    rows: of the columns that the expressions may use; only their schema is looked at. expressions: by the
    names under which messages show them. Raises AnalysisException where one does not fit the columns.
    """
    spark = rows.sparkSession
    parser = spark._jsparkSession.sessionState().sqlParser()
    patterns = jvm(spark).org.apache.spark.sql.catalyst.trees.TreePattern
    for name, text in expressions.items():
        if parser.parseExpression(text).containsPattern(patterns.PLAN_EXPRESSION()):
            raise JobError(f"{name}: '{text}' has a subquery; it may use only the columns of its own row")
    empty = spark.createDataFrame([], rows.schema)
    for name, text in expressions.items():
        plan = empty.select(F.expr(text))._jdf.queryExecution().analyzed()
        if not plan.deterministic() or plan.containsPattern(patterns.CURRENT_LIKE()):
            raise JobError(f"{name}: '{text}' does not give the same answer every time")


def require_type(spark: SparkSession, ddl: str) -> None:
    """Raises ParseException where a text is not the name of one type."""
    spark._jsparkSession.sessionState().sqlParser().parseDataType(ddl)


def names_used(rows: DataFrame) -> set[str]:
    """The names of the columns that the last step of a query reads."""
    attributes = rows._jdf.queryExecution().analyzed().references().toSeq()
    return {str(attributes.apply(place).name()) for place in range(attributes.size())}
