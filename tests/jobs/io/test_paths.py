"""A folder or file that an argument can't mean is refused in one sentence, before anything is read."""

import argparse
from pathlib import Path

import pytest

from jobs import import_dataset, make_demo_logs, query_tables, run_night, show_runs
from jobs.io.cli import run_name
from jobs.io.paths import folder_uri

# What an argument may say by mistake, and what is told.
NO_FOLDER = {
    "": "the path is empty",
    "  ": "the path is empty",
    "file:": "is no address of a folder",
    "s3a:/bucket/w": r"has one slash where an address has two",
    "hdfs:/w": r"has one slash where an address has two",
    "s3a://": "is no address of a folder",
    "s3a:///w": "is no address of a folder",
    "hdfs:///": "is no address of a folder",
    "://bucket/w": "is no address of a folder",
    "s3a://[bucket/w": "is no address of a folder",
    "file://[m/w": "is no address of a folder",
    "~nobody-of-this-name/w": "is no usable path",
    "n" * 300: "is no usable path: File name too long",
    "file:/" + "n" * 300: "is no usable path: File name too long",
}


@pytest.mark.parametrize("text", NO_FOLDER)
def test_what_no_folder_can_be_is_said(text):
    with pytest.raises(argparse.ArgumentTypeError, match=NO_FOLDER[text]) as raised:
        folder_uri(text)
    assert len(str(raised.value)) < 250


def test_a_circle_of_links_is_said(tmp_path):
    (tmp_path / "w").symlink_to(tmp_path / "w")
    for text in (f"{tmp_path}/w", f"{tmp_path}/w/below", f"file:{tmp_path}/w"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no usable path"):
            folder_uri(text)


def test_what_a_folder_may_be_called_stays():
    assert folder_uri("hdfs:///w") == "hdfs:///w" and folder_uri("s3a://bucket/") == "s3a://bucket"
    assert folder_uri("./s3a:/w") == str(Path("s3a:/w").resolve())
    assert folder_uri("a b:c") == str(Path("a b:c").resolve())


@pytest.mark.parametrize("text", ["", "s3a:/w", "~nobody-of-this-name", "n" * 300, "circle"])
@pytest.mark.parametrize("option", ["--warehouse", "--logs", "--config", "--mapping"])
def test_every_path_of_a_night_is_looked_at(text, option, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    good = ["--warehouse", "w", "--logs", ".", "--date", "2025-03-03"]
    with pytest.raises(SystemExit) as exit_:
        run_night.arg_parser().parse_args([*good, option, text])
    said = capsys.readouterr().err
    assert exit_.value.code == 2 and said.count("\n") == 1 and option in said


@pytest.mark.parametrize("text", ["", "~nobody-of-this-name", "n" * 300, "circle"])
@pytest.mark.parametrize(
    ("command", "good", "option"),
    [
        (show_runs, [], "--warehouse"),
        (import_dataset, ["--mapping", "movielens", "--logs", "new", "--source", "."], "--source"),
        (import_dataset, ["--mapping", "movielens", "--source", ".", "--logs", "new"], "--logs"),
        (query_tables, ["--warehouse", ".", "SELECT 1"], "--with"),
        (make_demo_logs, [], "--logs"),
    ],
)
def test_so_is_every_path_of_the_other_commands(text, command, good, option, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    given = f"t={text}" if option == "--with" else text
    with pytest.raises(SystemExit) as exit_:
        command.arg_parser().parse_args([*good, option, given])
    said = capsys.readouterr().err
    assert exit_.value.code == 2 and option in said.splitlines()[-1] and "Traceback" not in said
    assert "invalid local" not in said and "invalid folder" not in said


@pytest.mark.parametrize("text", ["", "../../x", "a/b", "/x", "a\nb", "x" * 201, "\u4e2d" * 67])
def test_a_run_id_that_no_file_could_have_as_its_name_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="a run id has 1 to 200 printable characters"):
        run_name(text)


@pytest.mark.parametrize("text", ["..", "scheduled__2025-04-01T00:00:00+00:00", "x" * 200, "\u4e2d" * 66])
def test_any_other_run_id_is_taken(text):
    assert run_name(text) == text
