"""How rules are measured, and when a measure passes."""

from datetime import date

import pytest

from jobs.night.checks import holds, measuring_query
from schemas.table import STRING, Column, Rule, Table


@pytest.mark.parametrize(
    ("value", "passes"),
    [(None, True), (0.0, True), (1.0, True), (1.5, False), (-0.1, False), (float("nan"), False)],
)
def test_a_measure_passes_within_its_bounds(value, passes):
    assert holds(Rule("r", "count(*)", high=1.0), value) == passes


def test_all_rules_of_a_table_are_measured_in_one_query():
    rules = (Rule("few", "count(*)"), Rule("none_later", "count_if(day > :last)"))
    table = Table("things", "Things.", (Column("day", STRING, "day"),), ("day",), None, rules=rules)
    assert measuring_query(table, date(2025, 3, 4)) == (
        "SELECT CAST(count(*) AS DOUBLE), CAST(count_if(day > DATE'2025-03-04') AS DOUBLE) FROM things"
    )
