"""Days delivered and ingested by a test, under its own settings and mapping."""

import json
from functools import partial

import pytest
import yaml

from jobs import ingest_events
from jobs.ingest.days import ingest_days
from jobs.io.days import Days
from jobs.io.logs import Logs
from schemas.mapping import parse_mapping
from schemas.settings import Settings
from tests.e2e.tables import call, rows_of
from tests.jobs.ingest.days import canonical, deliver, stored_in


@pytest.fixture(scope="session")
def ingest_in(spark):
    """Delivers a day to a folder and ingests it into the warehouse `w` in it; returns the stored events."""

    def run(root, day, *events, settings="{}", mapping=None):
        deliver(root, day, *events)
        config, file = root / "config.yaml", root / "mapping.yaml"
        config.write_text(settings, encoding="utf-8")
        file.write_text(yaml.safe_dump(mapping or canonical()), encoding="utf-8")
        arguments = ["--logs", root / "logs", "--date", day, "--mapping", file]
        call(spark, ingest_events, root / "w", str(config), *arguments)
        return rows_of(str(root / "w"), "behavior_events")

    return run


@pytest.fixture
def ingest(ingest_in, tmp_path):
    """The same in the test's own folder."""
    return partial(ingest_in, tmp_path)


@pytest.fixture
def read_together(run_on, tmp_path):
    """Delivers days and ingests them at once into a warehouse of their own; returns its events and items."""

    def run(days, mapping=None):
        for day, events in days.items():
            deliver(tmp_path, day, *events)
        span, folder = Days(min(days), max(days)), str(tmp_path / "together")
        logs = Logs(str(tmp_path / "logs"), parse_mapping(json.dumps(mapping or canonical()), "test"))
        with run_on(folder, ingest_events.JOB, span) as record:
            ingest_days(record, logs, Settings(), span)
        return stored_in(folder)

    return run
