"""The command writes the same log for the same arguments, and refuses arguments that it can't use."""

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.make_demo_logs import main
from tests.jobs.demo.reading import DAYS, START, USERS, files_of, make, truth_of

DIGESTS = {
    "ads": "eaa560366338793d",
    "home": "720eb56883ca852b",
    "shop": "e4c3ea05f3e75ea8",
    "video": "7d32b5aa917aff87",
}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("demo") / "logs")


def test_same_arguments_same_bytes(logs: Path, tmp_path: Path) -> None:
    assert files_of(make(tmp_path / "again")) == files_of(logs)


@pytest.mark.parametrize("domain", DIGESTS)
def test_the_log_of_a_seed_never_changes(domain: str, tmp_path: Path) -> None:
    """Figures measured on a demo log stay comparable."""
    files = files_of(make(tmp_path / "logs", "--domain", domain, "--days", "8", "--users", "20"))
    digest = hashlib.sha256(b"".join(name.encode() + content for name, content in files.items()))
    assert digest.hexdigest()[:16] == DIGESTS[domain]


def test_another_seed_is_another_log(logs: Path, tmp_path: Path) -> None:
    assert files_of(make(tmp_path / "other", "--seed", "8")) != files_of(logs)


def test_more_users_change_no_users_truth(logs: Path, tmp_path: Path) -> None:
    more = truth_of(make(tmp_path / "more", "--users", str(USERS + 5)))
    assert len(more) == USERS + 5
    assert {user: more[user] for user in truth_of(logs)} == truth_of(logs)


def test_every_day_has_its_folder_and_marker(logs: Path) -> None:
    days = [START + timedelta(days=i) for i in range(DAYS)]
    assert sorted(path.name for path in logs.iterdir()) == ["_truth", *(f"dt={day}" for day in days)]
    for day in days:
        assert sorted(path.name for path in (logs / f"dt={day}").iterdir()) == ["_SUCCESS", "events.jsonl"]
        assert (logs / f"dt={day}" / "_SUCCESS").stat().st_size == 0


def test_smallest_log(tmp_path: Path) -> None:
    logs = make(tmp_path / "logs", "--days", "2", "--users", "1")
    assert sorted(path.name for path in logs.iterdir()) == ["_truth", "dt=2025-03-03", "dt=2025-03-04"]


@pytest.mark.parametrize(
    "bad", [["--days", "1"], ["--users", "0"], ["--seed", "-1"], ["--start", "0001-01-01"]]
)
def test_bad_arguments_are_refused_and_leave_nothing(
    bad: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--logs", str(tmp_path / "logs"), *bad]) == 2
    said = capsys.readouterr().err
    assert bad[0] in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_unknown_domain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--logs", str(tmp_path / "logs"), "--domain", "weather"])
    assert stop.value.code == 2 and not list(tmp_path.iterdir())


def test_existing_log_days_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dt=2020-01-01").mkdir()
    assert main(["--logs", str(tmp_path)]) == 2
    assert "already holds log days" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["dt=2020-01-01"]
