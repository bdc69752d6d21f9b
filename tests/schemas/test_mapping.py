"""Log mappings: shipped and documented ones are valid, and a mistake gives a message of one sentence."""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.mapping import (
    EVENT_FIELDS,
    ITEM_FIELDS,
    THE_DAY,
    EventSource,
    MappingError,
    parse_mapping,
    shipped_mapping,
    shipped_names,
)

LOGS_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "logs.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", LOGS_PAGE, re.MULTILINE | re.DOTALL)
VALID: dict[str, Any] = {
    "source": {"format": "csv", "columns": {"who": "string", "at": "string", "what": "string"}},
    "fields": {
        "user_id": "who",
        "event_ts": "CAST(at AS TIMESTAMP)",
        "event_type": "'view'",
        "item_id": "what",
    },
}
ITEM_SOURCE: dict[str, Any] = {"format": "csv", "columns": {"what": "string", "name": "string"}}


def with_change(*path: str, value: Any = None) -> str:
    """The valid mapping with one value set, or removed if it is None."""
    mapping = deepcopy(VALID)
    part = mapping
    for key in path[:-1]:
        part = part.setdefault(key, {})
    if value is None:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return yaml.safe_dump(mapping)


def only_source(text: str) -> EventSource:
    """The only source of a mapping."""
    return parse_mapping(text, "my.yaml").sources[THE_DAY]


def test_the_mapping_without_a_mistake_is_valid():
    assert only_source(yaml.safe_dump(VALID)).fields == VALID["fields"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (with_change("fields", "colour", value="what"), "unknown field 'colour'"),
        (with_change("fields", "user_id"), "fields must define user_id"),
        (with_change("fields", "event_ts"), "fields must define event_ts"),
        (with_change("fields", "event_type"), "fields must define event_type"),
        (with_change("fields", "item_id"), "fields must define item_id or text"),
        (with_change("fields", "text", value=5), "fields.text: "),
        (with_change("fields"), "fields: "),
        (with_change("source"), "source: "),
        (with_change("source", "columns"), "source.columns: "),
        (with_change("source", "columns", value={}), "source.columns: "),
        (with_change("source", "format", value="xml"), "source.format: "),
        (with_change("source", "colums", value={}), "unknown key 'source.colums'"),
        (with_change("filters", value="true"), "unknown key 'filters'"),
        (
            with_change("zone", value="Europe/Londonium"),
            "zone 'Europe/Londonium' is not a name of the time zone database",
        ),
        (with_change("zone", value="../../etc/passwd"), "is not a name of the time zone database"),
        (with_change("rating_min", value=1), "rating_min must be below rating_max"),
        (with_change("rating_min", value=5), "rating_min must be below rating_max"),
        (
            with_change("rating_max", value=float("nan")),
            "rating_max: Input should be a finite number, not nan",
        ),
        (
            with_change("items", value={"source": ITEM_SOURCE, "fields": {"title": "name"}}),
            "fields must define item_id",
        ),
        (
            with_change("items", value={"source": ITEM_SOURCE, "fields": {"item_id": "what", "rating": "1"}}),
            "unknown field 'rating'",
        ),
        (with_change("items", value={"fields": {"item_id": "what"}}), "items.source: "),
        ("source: {", "is not valid YAML"),
        ("!!python/object:os.system {}", "uses a tag on line 1"),
        ("- source", "must contain source and fields"),
        ("", "must contain source and fields"),
    ],
)
def test_a_mistake_gives_one_sentence_that_names_the_file(text, says):
    with pytest.raises(MappingError) as caught:
        parse_mapping(text, "my.yaml")
    sentence = str(caught.value)
    assert sentence.startswith("my.yaml") and says in sentence and "\n" not in sentence


def test_a_mapping_must_not_define_both_zone_and_offset():
    mapping = VALID | {"zone": "Europe/London", "fields": VALID["fields"] | {"utc_offset_min": "60"}}
    with pytest.raises(MappingError, match="utc_offset_min follows from zone"):
        parse_mapping(yaml.safe_dump(mapping), "my.yaml")


def test_reader_options_become_text():
    options = {"header": True, "multiLine": False, "maxColumns": 9}
    options = only_source(with_change("source", "options", value=options)).source.options
    assert options == {"header": "true", "multiLine": "false", "maxColumns": "9"}


def test_three_mappings_are_shipped():
    assert shipped_names() == ["canonical", "movielens", "online_retail"]


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_mapping_parses(name):
    text = shipped_mapping(name)
    assert text is not None
    assert only_source(text).fields


def test_the_canonical_mapping_defines_every_field_under_its_own_name():
    mapping = only_source(shipped_mapping("canonical") or "")
    # utc_offset_min is not a column of the log: it comes from the offset in event_ts.
    assert set(mapping.fields) == set(EVENT_FIELDS) - {"utc_offset_min"}
    assert set(mapping.source.columns) == set(EVENT_FIELDS) - {"utc_offset_min"}


@pytest.mark.parametrize(
    "name",
    [
        "../mapping",
        "../log_mappings/canonical",
        "canonical.yaml",
        "/etc/passwd",
        "log_mappings",
        ".",
        "..",
        "",
        "nosuch",
    ],
)
def test_no_other_name_reads_a_file(name):
    assert shipped_mapping(name) is None


@pytest.mark.parametrize("text", EXAMPLES)
def test_a_documented_mapping_parses(text):
    assert parse_mapping(text, "docs/logs.md").sources


def test_the_page_on_logs_documents_every_field_and_shipped_mapping():
    assert EXAMPLES
    assert [
        name for name in [*EVENT_FIELDS, *ITEM_FIELDS, *shipped_names()] if f"`{name}`" not in LOGS_PAGE
    ] == []


@pytest.mark.parametrize(
    ("format_", "option"),
    [
        ("csv", "mode"),
        ("csv", "comment"),
        ("json", "MODE"),
        ("json", "pathGlobFilter"),
        ("parquet", "modifiedAfter"),
        ("csv", "path"),
        ("json", "columnNameOfCorruptRecord"),
        ("csv", "inferSchema"),
        ("json", "fs.s3a.access.key"),
        ("parquet", "mergeSchema"),
    ],
)
def test_an_option_that_loses_records_or_files_is_refused(format_, option):
    source = {"format": format_, "columns": {"a": "string"}, "options": {option: "x"}}
    with pytest.raises(MappingError, match=f"the option '{option}' is not one that a mapping may set"):
        parse_mapping(json.dumps(VALID | {"source": source}), "m")


def options_of(format_: str, **options: Any) -> dict[str, str]:
    source = {"format": format_, "columns": {"a": "string"}, "options": options}
    return only_source(json.dumps(VALID | {"source": source})).source.options


def test_names_of_options_have_no_case():
    given = {"HEADER": "False", "Multiline": "TRUE", "Charset": "UTF-16", "DELIMITER": ";", "nullvalue": "NA"}
    meant = {"header": "false", "multiLine": "true", "encoding": "UTF-16", "sep": ";", "nullValue": "NA"}
    assert options_of("csv", **given) == meant
    assert options_of("json", ENCODING="UTF-16", multiline=True) == {
        "encoding": "UTF-16",
        "multiLine": "true",
    }
    assert options_of("parquet", DatetimeRebaseMode="LEGACY") == {"datetimeRebaseMode": "LEGACY"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"header": True, "HEADER": False}, "the option 'header' is set twice, as 'HEADER' too"),
        ({"sep": ";", "delimiter": "|"}, "the option 'sep' is set twice, as 'delimiter' too"),
        ({"encoding": "UTF-8", "charset": "UTF-16"}, "the option 'encoding' is set twice"),
        ({"header": "yes"}, "the option 'header' should be true or false, not 'yes'"),
        ({"multiLine": 1}, "the option 'multiLine' should be true or false, not '1'"),
        ({"ignoreLeadingWhiteSpace": "no"}, "'ignoreLeadingWhiteSpace' should be true or false"),
    ],
)
def test_an_option_has_one_value_that_can_be_told(options, says):
    with pytest.raises(MappingError, match=says):
        options_of("csv", **options)


ONE = {"source": VALID["source"], "fields": VALID["fields"]}


def test_a_mapping_names_several_sources_each_with_its_own_rules():
    sources = {"orders": ONE | {"zone": "Europe/Paris"}, "coupons-2": ONE | {"filter": "what <> ''"}}
    mapping = parse_mapping(json.dumps({"sources": sources, "max_bad_share": 0.5}), "m")
    assert {name: (one.zone, one.filter) for name, one in mapping.sources.items()} == {
        "orders": ("Europe/Paris", None),
        "coupons-2": (None, "what <> ''"),
    }


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sources": {"orders": ONE}, "zone": "UTC"}, "zone belongs to each of its sources"),
        ({"sources": {"": ONE}}, "sources has an empty name"),
        ({"sources": {}}, "sources: "),
        ({"sources": 5}, "sources: "),
        ({"sources": None}, "sources: "),
        ({"sources": {"a/b": ONE}}, "'a/b' can't name a source"),
        ({"sources": {"_a": ONE}}, "'_a' can't name a source"),
        ({"sources": {"dt=1": ONE}}, "'dt=1' can't name a source"),
        ({"sources": {"orders": {"source": VALID["source"]}}}, "sources.orders.fields: "),
        ({"sources": {"orders": ONE | {"fields": {}}}}, "sources.orders: fields must define"),
        ({"sources": {"orders": ONE | {"items": {}}}}, "unknown key 'sources.orders.items'"),
    ],
)
def test_a_mistake_in_a_mapping_of_several_sources_is_named(changed, says):
    with pytest.raises(MappingError, match=re.escape(says)):
        parse_mapping(json.dumps(changed), "m")
