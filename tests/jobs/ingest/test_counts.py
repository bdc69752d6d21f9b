"""What is told of fields that no record has, from counts alone."""

import json

import pytest

from jobs.ingest.counts import renamed_fields, unfilled
from schemas.mapping import parse_mapping
from tests.jobs.ingest.days import FIRST, canonical

FIELDS = {"user_id": "user_id", "event_ts": "event_ts", "event_type": "event_type"}
FIELDS |= {"item_id": "item_id", "title": "ttle"}


def mapping_of(**fields):
    columns = dict.fromkeys((*FIELDS, "ttle", "name"), "string")
    given = {"source": {"format": "json", "columns": columns}, "fields": FIELDS | fields}
    return parse_mapping(json.dumps(given), "test")


@pytest.mark.parametrize(
    ("counts", "told"),
    [([0, 0], {"title": ["ttle"]}), ([0, 1], {}), ([], {})],
)
def test_a_field_without_a_value_in_any_group_is_told(counts, told):
    assert unfilled(mapping_of(), [{"filled title": count} for count in counts]) == told


def test_fields_under_their_own_name_are_as_the_log_has_them():
    assert [*renamed_fields(parse_mapping(json.dumps(canonical()), "test"))] == ["event_ts"]
    assert renamed_fields(mapping_of(text="lower(name)")) == {"text": ["lower(name)"], "title": ["ttle"]}


def test_a_misspelt_name_in_json_and_a_filter_that_nothing_passes_are_told(ingest, capsys):
    mapping = canonical()
    mapping["source"]["columns"] |= {"ttle": "string", "code": "string"}
    mapping["fields"] |= {"title": "ttle", "event_id": "code"}
    viewed = {"user_id": "a", "event_ts": f"{FIRST}T10:00:00Z", "event_type": "view", "item_id": "S1"}
    ingest(FIRST, viewed | {"title": "Tea"}, mapping=mapping)
    said = capsys.readouterr().out
    assert (
        f"no record of {FIRST} has a value of title, which the mapping reads from ttle: is the name" in said
    )
    assert "has a value of event_id, which the mapping reads from code" in said
    assert said.count("no record") == 2
    ingest(FIRST, viewed, mapping=mapping | {"filter": "ttle = 'x'"})
    assert f"no record of {FIRST} passes the mapping's filter ttle = 'x'" in capsys.readouterr().out
