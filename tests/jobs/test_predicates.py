"""Which facet predicates are taken: those that say the same of an event whenever they are asked."""

import pytest

from jobs.fold.marks import facets_of
from jobs.io.messages import JobError
from schemas import behavior_events
from schemas.settings import FacetSettings, FoldSettings


@pytest.fixture
def events(spark):
    return spark.createDataFrame([], behavior_events.TABLE.spark_schema()).selectExpr(
        "*", "CAST(NULL AS DOUBLE) AS polarity"
    )


@pytest.mark.parametrize(
    "where", ["place = 'home'", "dayofweek(event_date) IN (1, 7)", "array_contains(companions, 'family')"]
)
def test_what_follows_from_the_event_is_taken(events, where):
    events.select(facets_of(events, FoldSettings(facets=(FacetSettings(name="some", where=where),))))


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("rand() < 0.5", "the same answer"),
        ("event_date = current_date()", "the same answer"),
        ("event_ts < now()", "the same answer"),
        ("log_date = event_date", "log_date"),
        ("event_id = 'e1'", "event_id"),
        ("source_file LIKE 'x%'", "source_file"),
        ("place = ", "PARSE"),
    ],
)
def test_what_changes_or_is_no_fact_of_the_event_is_refused(events, where, told):
    with pytest.raises(JobError, match=told):
        facets_of(events, FoldSettings(facets=(FacetSettings(name="some", where=where),)))
