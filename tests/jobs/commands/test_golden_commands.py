"""Every command that a DAG starts, as tests/golden/commands/ records it, is understood by its job."""

import importlib
from datetime import date
from pathlib import Path

import pytest

from tests.conftest import ROOT

OF_RANGES = {"backfill_profiles", "evaluate_profiles", "train_ranker"}
COMMANDS = sorted((ROOT / "tests" / "golden" / "commands").glob("*.txt"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files that the recorded arguments name."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "nightfold.yaml").write_text("engine: {kind: hash}\n", encoding="utf-8")
    return tmp_path


def test_there_are_recorded_commands():
    assert len(COMMANDS) >= 7


@pytest.mark.parametrize("file", COMMANDS, ids=lambda file: file.stem)
def test_a_recorded_command_is_understood_by_its_job(file, root):
    words = file.read_text(encoding="utf-8").replace("{root}", str(root)).splitlines()
    job = file.stem.split(".")[1]
    start = words.index(f"{root}/jobs/{job}.py") + 1
    assert (ROOT / "jobs" / f"{job}.py").is_file() and words[0] == f"{root}/.venv/bin/spark-submit"
    args = importlib.import_module(f"jobs.{job}").arg_parser().parse_args(words[start:])
    assert args.warehouse == f"{root}/warehouse" and args.config.engine.kind == "hash"
    assert isinstance(args.start if job in OF_RANGES else args.date, date)
    # A range names its own run, so that a killed one is found again, and so does a training.
    assert (getattr(args, "run_id", None) is None) == (job in OF_RANGES)
