"""A mapping is data: its expressions see the columns of their row and give the same answer every time."""

import json
import os

import pytest

from jobs.ingest.fit import require_fit
from jobs.io.messages import JobError
from jobs.io.warehouse import Warehouse
from schemas.mapping import parse_mapping

SOURCE = {"format": "json", "columns": {"who": "string", "at": "variant", "what": "string"}}
FIELDS = {"user_id": "who", "event_ts": "at", "event_type": "'view'", "item_id": "what"}
ITEMS = {"source": SOURCE, "fields": {"item_id": "what", "title": "who"}}
REFUSED = {
    "reflect('java.lang.System', 'getenv', 'HOME')": "the same answer",
    "java_method('java.lang.System', 'getProperty', 'user.home')": "the same answer",
    "try_reflect('java.lang.System', 'getenv', 'HOME')": "the same answer",
    "concat('a', reflect('java.lang.System', 'getenv', 'HOME'))": "the same answer",
    "(SELECT max(value) FROM text.`/etc/hostname`)": "has a subquery",
    "what IN (SELECT value FROM text.`/etc/hostname`)": "has a subquery",
    "EXISTS (SELECT 1)": "has a subquery",
    "transform(array(what), x -> (SELECT 'y'))[0]": "has a subquery",
    "uuid()": "the same answer",
    "cast(rand() AS string)": "the same answer",
    "input_file_name()": "the same answer",
    "monotonically_increasing_id()": "the same answer",
    "current_user()": "the same answer",
    "current_timestamp()": "the same answer",
    "cast(current_date() AS string)": "the same answer",
}


def mapping(**changed):
    return parse_mapping(json.dumps({"source": SOURCE, "fields": FIELDS} | changed), "m")


@pytest.mark.parametrize("expression", REFUSED)
def test_no_expression_reads_other_data_or_calls_code(spark, tmp_path, expression):
    text = f"CAST({expression} AS STRING)"
    places = {
        "the mapping's item_id: ": mapping(fields=FIELDS | {"item_id": text}),
        "the mapping's filter: ": mapping(filter=f"{text} <> ''"),
        "the mapping's texts: view: ": mapping(texts={"view": text}),
        "the mapping's items: title: ": mapping(items=ITEMS | {"fields": {"item_id": "what", "title": text}}),
    }
    for where, refused in places.items():
        with pytest.raises(JobError) as raised:
            require_fit(Warehouse(spark, str(tmp_path)), refused)
        assert str(raised.value).startswith(where) and REFUSED[expression] in str(raised.value)


def test_a_variable_of_the_job_is_no_value(spark, tmp_path, monkeypatch):
    assert os.environ.get("PATH")
    for name in ("${env:PATH}", "${system:user.home}", "${spark.app.name}"):
        fields = FIELDS | {"item_id": f"'{name}'"}
        require_fit(Warehouse(spark, str(tmp_path)), mapping(fields=fields))
        assert spark.range(1).selectExpr(f"'{name}' AS v").first()["v"] == name


@pytest.mark.parametrize("kind", ["int) + length(string", "string, more int", "strin", "int COMMENT 'x'", ""])
def test_a_type_is_a_type_alone(spark, tmp_path, kind):
    source = SOURCE | {"columns": SOURCE["columns"] | {"what": kind}}
    with pytest.raises(JobError, match="the mapping's column what has the type"):
        require_fit(Warehouse(spark, str(tmp_path)), mapping(source=source))


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("struct<id: string>", "user_id", "'who' is struct<id:string>, no value of which fits string"),
        ("array<string>", "item_id", "'who' is array<string>, no value of which"),
        ("map<string,string>", "session_id", "'who' is map<string,string>, no value of which"),
        ("boolean", "user_id", "'who' is boolean, no value of which"),
        ("timestamp", "event_id", "'who' is timestamp, no value of which"),
        ("date", "text", "'who' is date, no value of which"),
        ("binary", "user_id", "'who' is binary, no value of which"),
        ("boolean", "value", "'who' is boolean, no value of which fits double"),
        ("boolean", "event_ts", "'who' is boolean, no value of which fits timestamp"),
        ("string", "companions", "'who' is string, no value of which fits array<string>"),
        ("map<string,array<string>>", "extra", "'who' is map<string,array<string>>, no value of which"),
    ],
)
def test_a_type_without_a_fitting_value_is_refused_before_anything_is_read(spark, tmp_path, kind, name, says):
    source = SOURCE | {"columns": {"who": kind, "at": "variant", "what": "string"}}
    fields = FIELDS | {"user_id": "what"} | {name: "who"}
    with pytest.raises(JobError) as raised:
        require_fit(Warehouse(spark, str(tmp_path)), mapping(source=source, fields=fields))
    assert str(raised.value).startswith(f"the mapping's {name}: {says}")
    assert "\n" not in str(raised.value)


def test_a_catalogues_field_of_such_a_type_is_refused_too(spark, tmp_path):
    items = ITEMS | {"fields": {"item_id": "what", "title": "who", "valid_from": "7"}}
    with pytest.raises(
        JobError, match="the mapping's items: valid_from: '7' is int, no value of which fits date"
    ):
        require_fit(Warehouse(spark, str(tmp_path)), mapping(items=items))


def test_a_text_made_of_such_a_type_is_refused_too(spark, tmp_path):
    with pytest.raises(JobError, match="texts: view: 'item_attributes' is map<string,string>, no value"):
        require_fit(Warehouse(spark, str(tmp_path)), mapping(texts={"view": "item_attributes"}))
