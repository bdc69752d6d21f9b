"""A log of several sources under one mapping: a retailer's transactions beside redeemed coupons."""

import json

import pytest

from jobs import import_dataset
from jobs.ingest import damage
from jobs.io.days import Days
from jobs.io.logs import Logs
from jobs.io.messages import JobError
from schemas.mapping import parse_mapping
from tests.jobs.ingest.days import FIRST
from tests.jobs.records import fated, write_day

ORDERS = {
    "source": {
        "format": "csv",
        "options": {"sep": ";"},
        "columns": {"id": "bigint", "who": "bigint", "at": "string", "sku": "string", "paid": "double"},
        "files": "orders*.csv",
    },
    "zone": "Europe/Paris",
    "filter": "paid > 0",
    "fields": {
        "event_id": "concat('order ', id)",
        "user_id": "who",
        "event_ts": "at",
        "event_type": "'purchase'",
        "item_id": "sku",
        "value": "paid",
    },
}
COUPONS = {
    "source": {
        "format": "json",
        # The same names with other types.
        "columns": {"id": "string", "who": "string", "at": "variant", "text": "string"},
        "files": "coupons.jsonl",
    },
    "fields": {
        "event_id": "concat('coupon ', id)",
        "user_id": "who",
        "event_ts": "at",
        "event_type": "'coupon'",
        "text": "text",
    },
}
MAPPING = json.dumps({"sources": {"orders": ORDERS, "coupons": COUPONS}})
ORDER_LINES = [
    "id;who;at;sku;paid",
    "1;7;2025-04-01T12:00:00;S1;5",
    "2;7;2025-04-01T13:00:00;S2;0",
    "3;8;2025-04-01T12:00:00;S1;x",
]
COUPON = {"id": 1, "who": 7.0, "at": 1743501600, "text": "10% off"}
COUPON_LINES = [json.dumps(one) for one in (COUPON, COUPON, COUPON | {"id": 2, "who": True})]
FILES = {
    "orders/a.csv": "\n".join(ORDER_LINES).encode(),
    "coupons/shop=3/b.jsonl": "\n".join(COUPON_LINES).encode(),
}


def decided(spark, root):
    rows = fated(spark, str(root), parse_mapping(MAPPING, "m")).collect()
    return sorted(
        (row["fate"], row["reason"], row["event_id"], row["user_id"], str(row["event_ts"])) for row in rows
    ), rows


EXPECTED = [
    ("duplicate", None, "coupon 1", "7", "2025-04-01 10:00:00"),
    ("filtered", None, "order 2", "7", "2025-04-01 11:00:00"),
    ("quarantined", "wrong_type", "coupon 2", None, "2025-04-01 10:00:00"),
    ("quarantined", "wrong_type", "order 3", "8", "2025-04-01 10:00:00"),
    ("stored", None, "coupon 1", "7", "2025-04-01 10:00:00"),
    ("stored", None, "order 1", "7", "2025-04-01 10:00:00"),
]


def test_each_source_is_read_by_its_own_rules_and_its_rejects_show_its_own_columns(spark, tmp_path):
    write_day(tmp_path, FILES)
    found, rows = decided(spark, tmp_path)
    assert found == EXPECTED
    raw = {row["event_id"]: json.loads(row["raw"]) for row in rows if row["raw"]}
    assert raw["order 3"] == {
        "id": 3, "who": 8, "at": "2025-04-01T12:00:00", "sku": "S1", "not of its type": "paid",
    }  # fmt: skip
    assert raw["coupon 2"] == {"id": "2", "at": 1743501600, "text": "10% off", "not of its type": "who"}


def test_every_file_belongs_to_a_source_and_a_manifest_counts_them(spark, tmp_path):
    logs, day = Logs(str(tmp_path), parse_mapping(MAPPING, "m")), Days.only(FIRST)
    # A day without coupons.
    write_day(tmp_path, {"orders/a.csv": FILES["orders/a.csv"]})
    assert damage.require_sound_days(spark, logs, day, 200) == {}
    write_day(tmp_path, FILES)
    folder = tmp_path / f"dt={FIRST}"
    (folder / "_MANIFEST").write_text(json.dumps({"orders/a.csv": 3, "coupons/shop=3/b.jsonl": 3}))
    promised = damage.require_sound_days(spark, logs, day, 200)
    assert promised == {f"{folder}/orders/a.csv": 3, f"{folder}/coupons/shop=3/b.jsonl": 3}
    (folder / "_MANIFEST").unlink()
    (folder / "orders.csv").write_text("id")
    with pytest.raises(JobError, match=r"orders.csv is in none of the folders of .*, coupons, orders"):
        damage.require_sound_days(spark, logs, day, 200)


def test_a_data_set_of_several_sources_is_split_into_their_folders(spark, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    later = "4;7;2025-04-03T00:30:00;S1;5"
    (source / "orders-1.csv").write_text("\n".join([*ORDER_LINES, later]))
    (source / "coupons.jsonl").write_text("\n".join(COUPON_LINES))
    (source / "notes.txt").write_text("of another time")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    words = ["--mapping", tmp_path / "mapping.yaml", "--source", source, "--logs", tmp_path / "logs"]
    import_dataset.run(spark, import_dataset.arg_parser().parse_args([str(word) for word in words]))
    folders = sorted(str(path.relative_to(tmp_path / "logs")) for path in (tmp_path / "logs").glob("*/[!.]*"))
    days = [f"dt=2025-04-0{day}" for day in (1, 2)]
    assert folders == [
        f"{days[0]}/_SUCCESS", f"{days[0]}/coupons", f"{days[0]}/orders",
        f"{days[1]}/_SUCCESS", f"{days[1]}/orders",
    ]  # fmt: skip
    found, _ = decided(spark, tmp_path / "logs")
    stored = ("stored", None, "order 4", "7", "2025-04-02 22:30:00")
    assert found == [*EXPECTED, stored]


def test_a_file_of_two_sources_is_refused(spark, tmp_path):
    (tmp_path / "coupons.jsonl").write_text("{}")
    both = {"sources": {"a": COUPONS, "b": COUPONS}}
    with pytest.raises(JobError, match=r"coupons.jsonl matches the files of both sources a and b"):
        import_dataset.files_by_source(spark, parse_mapping(json.dumps(both), "m"), str(tmp_path))
