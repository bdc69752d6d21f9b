"""Every job works in folders whose names have characters with a meaning to shells, SQL or addresses."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from jobs import (
    backfill_profiles,
    import_dataset,
    maintain_tables,
    publish_run,
    query_tables,
    run_night,
    show_demo,
    show_runs,
    upgrade_tables,
)
from jobs.io.reading import newest_versions, open_table, published_versions
from tests.e2e.conftest import DAYS
from tests.e2e.tables import call, state_hashes

ODD = 'a`b %20c%zz;d\'e#f "é" ü$x&y(1)+z'


@pytest.fixture(scope="module")
def odd(tmp_path_factory, logs, config) -> Path:
    """Logs and settings in a folder with an odd name."""
    folder = tmp_path_factory.mktemp("odd") / ODD
    shutil.copytree(logs, folder / "lo`gs%41")
    shutil.copy(config, folder / "con'fig%41.yaml")
    return folder


def shown(command, capsys, *arguments) -> str:
    """What a command that reads without Spark prints."""
    capsys.readouterr()
    assert command.main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_every_job_works_in_an_odd_folder_and_gives_the_same(spark, odd, after_nights, capsys):
    logs, config, warehouse = odd / "lo`gs%41", str(odd / "con'fig%41.yaml"), odd / "w%41`;'h"
    for day in DAYS[:2]:
        first = ["--bootstrap"] if day == DAYS[0] else []
        call(spark, run_night, warehouse, config, "--logs", logs, "--date", day, *first)
    assert state_hashes_of(warehouse) == state_hashes(after_nights(2))
    assert f"published: {DAYS[0]} to {DAYS[1]}" in shown(show_runs, capsys, "--warehouse", warehouse)
    for name, version in published_versions(str(warehouse)).items():
        sql = f"SELECT * FROM {name}"  # noqa: S608 - a declared name
        lines = shown(query_tables, capsys, "--warehouse", warehouse, "--jsonl", sql).splitlines()
        assert len(lines) == count(open_table(str(warehouse), name, version))

    call(spark, publish_run, warehouse, config, "--undo", DAYS[1])
    call(spark, run_night, warehouse, config, "--logs", logs, "--date", DAYS[1])
    call(spark, maintain_tables, warehouse, config, "--date", DAYS[1], "--dry-run")
    compacting = odd / "compact`ing%41.yaml"
    compacting.write_text("engine: {kind: hash}\nmaintenance: {small_files: 2}\n", encoding="utf-8")
    call(spark, maintain_tables, warehouse, str(compacting), "--date", DAYS[1])
    call(spark, upgrade_tables, warehouse, config)
    end = ["--start", DAYS[2], "--end", DAYS[2]]
    call(spark, backfill_profiles, warehouse, config, "--logs", logs, *end, "--dry-run")
    call(spark, backfill_profiles, warehouse, config, "--logs", logs, *end)
    call(spark, show_demo, warehouse, config, "--logs", logs)
    assert state_hashes_of(warehouse) == state_hashes(after_nights(3))
    rebuilt = odd / "re`built%41.yaml"
    rebuilt.write_text("engine: {kind: hash}\nfold: {alpha: 0.5}\n", encoding="utf-8")
    call(spark, backfill_profiles, warehouse, str(rebuilt), "--rebuild")
    assert state_hashes_of(warehouse) != state_hashes(after_nights(3))


def state_hashes_of(warehouse: Path) -> list[str]:
    """Of a copy under a plain name, as deltalake takes some names for others."""
    plain = warehouse.parent.parent / "plain"
    shutil.rmtree(plain, ignore_errors=True)
    shutil.copytree(warehouse, plain)
    return state_hashes(plain)


def test_a_data_set_is_split_from_and_to_odd_folders(spark, tmp_path):
    source = tmp_path / ODD / "source"
    source.mkdir(parents=True)
    mapping = source.parent / "map`ping%41.yaml"
    mapping.write_text(
        "source: {format: csv, columns: {user: string, at: string, item: string}}\n"
        "fields: {user_id: user, event_ts: at, event_type: \"'view'\", item_id: item}\n",
        encoding="utf-8",
    )
    (source / "a`b%41 c;#.csv").write_text("user,at,item\nu,2025-04-01T10:00:00Z,i\n", encoding="utf-8")
    logs = source.parent / "lo`gs%41"
    argv = ["--mapping", str(mapping), "--source", str(source), "--logs", str(logs)]
    import_dataset.run(spark, import_dataset.arg_parser().parse_args(argv))
    (file,) = logs.glob("dt=2025-04-01/**/*.csv")
    assert file.read_text(encoding="utf-8").splitlines()[1:] == ['"u","2025-04-01T10:00:00Z","i"']


@pytest.mark.parametrize("name", ["%41", "%2F", "%", "%zz", "a\\b", "a b", "%25", "é%C3%A9", "a'b\"c", "a`b"])
def test_a_table_is_read_without_spark_whatever_its_folder_is_named(name, tmp_path, after_nights):
    warehouse = tmp_path / name
    shutil.copytree(after_nights(1), warehouse)
    plain, found = str(after_nights(1)), str(warehouse)
    assert newest_versions(found) == newest_versions(plain)
    for table in newest_versions(plain):
        assert count(open_table(found, table)) == count(open_table(plain, table))


def count(table: DeltaTable) -> int:
    counted = QueryBuilder().register("t", table).execute("SELECT count(*) AS n FROM t")
    return pa.table(counted)["n"][0].as_py()
