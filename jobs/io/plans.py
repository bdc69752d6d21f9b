"""Questions to Spark's parsed expressions and analyzed plans."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from py4j.protocol import Py4JError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.io.messages import JobError
from jobs.io.storage import jvm

# Not the same every time, though Spark does not say so (a random start vector), or the end of the job.
DENIED: Final = {"aes_encrypt", "raise_error", "assert_true"}
# What Spark takes for a time of the clock, where a text becomes a time.
_CLOCK: Final = r"\s*(?:now|today|tomorrow|yesterday)\b"
CLOCK: Final = re.compile(_CLOCK, re.IGNORECASE)
# A typed literal is a number of microseconds once it is parsed.
CLOCK_LITERAL: Final = re.compile(rf"\b(?:date|timestamp\w*)\s*r?(['\"]){_CLOCK}", re.IGNORECASE)
TIMES: Final = ("date", "timestamp", "timestamp_ntz")


def require_plain(rows: DataFrame, expressions: Mapping[str, str]) -> None:
    """Raises JobError where a user's expression is more than a repeatable answer about its own row.

    That is a subquery, refused before Spark looks at what it reads; a random function, the clock, or a call
    of Java; an aggregate, a window over other rows, or what makes several rows of one.

    rows: of the columns that the expressions may use; only their schema is looked at. expressions: by the
    names under which messages show them. Raises AnalysisException where one does not fit the columns.
    """
    spark = rows.sparkSession
    parser = spark._jsparkSession.sessionState().sqlParser()
    patterns = jvm(spark).org.apache.spark.sql.catalyst.trees.TreePattern
    for name, text in expressions.items():
        parsed = parser.parseExpression(text)
        if parsed.containsPattern(patterns.PLAN_EXPRESSION()):
            raise JobError(f"{name}: '{text}' has a subquery; it may use only the columns of its own row")
        for denied in (word for word in DENIED if word in text.lower()):
            if any(_calls(denied, node) for node in _parts(parsed)):
                raise JobError(f"{name}: '{text}' calls {denied}, which no expression may")
    empty = spark.createDataFrame([], rows.schema)
    for name, text in expressions.items():
        plan = empty.select(F.expr(text))._jdf.queryExecution().analyzed()
        # A selection of the empty rows, and nothing between.
        if plan.nodeName() != "Project" or plan.child().children().nonEmpty():
            raise JobError(
                f"{name}: '{text}' looks at other rows, or makes several of one; it may use only the columns "
                "of its own row"
            )
        is_clock = plan.containsPattern(patterns.CURRENT_LIKE()) or CLOCK_LITERAL.search(text)
        if not plan.deterministic() or is_clock or _has_clock(plan, text, patterns):
            raise JobError(f"{name}: '{text}' does not give the same answer every time")


def _parts(expression: Any) -> Iterator[Any]:
    """An expression of Spark with all its parts."""
    yield expression
    children = expression.children()
    for place in range(children.size()):
        yield from _parts(children.apply(place))


def _calls(function: str, parsed: Any) -> bool:
    """Whether a parsed expression is a call of the function."""
    if parsed.nodeName() != "UnresolvedFunction":
        return False
    names = parsed.nameParts()
    return bool(names.apply(names.size() - 1).lower() == function)


def _has_clock(plan: Any, text: str, patterns: Any) -> bool:
    """Whether an analyzed selection makes a time of a constant text like 'now'."""
    # Most expressions have no text that becomes anything.
    if not plan.containsPattern(patterns.CAST()) or not {"'", '"'} & {*text}:
        return False
    selected = plan.expressions()
    whole = [selected.apply(place) for place in range(selected.size())]
    parts = [part for expression in whole for part in _parts(expression)]
    if plan.containsPattern(patterns.RUNTIME_REPLACEABLE()):
        parts += [inner for part in parts for inner in _parts_of_replacement(part)]
    return any(map(_is_clock, parts))


def _parts_of_replacement(analyzed: Any) -> Iterator[Any]:
    """What Spark will run in place of a function like to_date; nothing of one that it runs itself."""
    try:
        replacement = analyzed.replacement()
    except Py4JError:
        return
    yield from _parts(replacement)


def _is_clock(analyzed: Any) -> bool:
    if analyzed.nodeName() != "Cast" or analyzed.dataType().typeName() not in TIMES:
        return False
    child = analyzed.child()
    if not child.foldable() or child.dataType().typeName() != "string":
        return False
    # What Spark itself would replace can't be evaluated alone.
    value = child.eval(None) if child.nodeName() == "Literal" else None
    return CLOCK.match(str(value)) is not None if value is not None else child.nodeName() != "Literal"


def require_type(spark: SparkSession, ddl: str) -> None:
    """Raises ParseException where a text is not the name of one type."""
    spark._jsparkSession.sessionState().sqlParser().parseDataType(ddl)


def names_used(rows: DataFrame) -> set[str]:
    """The names of the columns that the last step of a query reads."""
    attributes = rows._jdf.queryExecution().analyzed().references().toSeq()
    return {str(attributes.apply(place).name()) for place in range(attributes.size())}
