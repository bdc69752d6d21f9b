"""The command's refusals: one sentence each, without an id, before anything is written."""

import pytest

from jobs import erase_users
from jobs.io.messages import JobError
from tests.e2e.tables import call

DAY = "2025-03-03"


@pytest.fixture
def ids(tmp_path):
    (tmp_path / "ids").write_text("anneliese\n", encoding="utf-8")
    return str(tmp_path / "ids")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"--ids": "nowhere"}, "nowhere can't be read: FileNotFoundError"),
        ({"--date": "2025-3-3"}, "'2025-3-3' is no date; write YYYY-MM-DD"),
        ({"--ids": None}, "the following arguments are required: --ids"),
        ({"--date": None}, "the following arguments are required: --date"),
    ],
)
def test_bad_arguments_are_one_sentence(ids, change, told, tmp_path, capsys):
    given = {"--warehouse": str(tmp_path), "--ids": ids, "--date": DAY} | change
    argv = [part for name, value in given.items() if value is not None for part in (name, value)]
    with pytest.raises(SystemExit) as exited:
        erase_users.main(argv)
    said = capsys.readouterr().err
    assert exited.value.code == 2 and told in said and said.count("\n") == 1 and "anneliese" not in said


def test_a_folder_without_tables_is_refused(spark, warehouse, ids, tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(JobError, match=f"there are no tables in {warehouse}"):
        call(spark, erase_users, warehouse, str(tmp_path / "config.yaml"), "--ids", ids, "--date", DAY)
    assert not (tmp_path / "warehouse").exists()
