"""The judge of all faults sees what it is there for: each invariant is violated once, and noticed."""

from pathlib import Path

import pytest

from jobs.io.messages import JobError
from tests.faults import scenes, trial
from tests.faults.scenes import NIGHT, SCENES, Undisturbed, advised, night
from tests.faults.trial import Trial, require_one_sentence

EXPECTED = Undisturbed(Path("w"), "before", "after", "newest", ["a.begin", "exit"])


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """A trial of a warehouse that is nothing but what it shows, and what its tables hold."""
    made = Trial(None, SCENES[NIGHT], tmp_path, tmp_path, EXPECTED)
    state = {"shown": "after", "newest": "newest"}
    monkeypatch.setattr(trial, "LOOK_S", 0.001)
    monkeypatch.setattr(trial, "shown_hash", lambda _: state["shown"])
    monkeypatch.setattr(trial, "newest_hash", lambda _: state["newest"])
    return made, state


def test_what_an_undisturbed_job_gives_passes(tried):
    made, _ = tried
    with made.watched():
        pass
    made.judge()


@pytest.mark.parametrize(
    ("part", "said"), [("shown", "readers see another"), ("newest", "tables hold another")]
)
def test_another_result_is_noticed(tried, part, said):
    made, state = tried
    state[part] = "else"
    with pytest.raises(AssertionError, match=said):
        made.judge()


def test_a_lease_that_is_held_is_noticed(tried):
    made, _ = tried
    held = scenes.take_folder(str(made.warehouse), "a job that lives")
    with pytest.raises(JobError, match="is being written by a job that lives"):
        made.judge()
    held.release()
    made.judge()


@pytest.mark.parametrize("shown", ["before", "after"])
def test_readers_may_see_one_night_or_the_other(tried, shown):
    made, state = tried
    state["shown"] = shown
    with made.watched():
        pass


def test_readers_that_see_anything_else_are_heard(tried):
    made, state = tried
    state["shown"] = "half a night"
    with pytest.raises(AssertionError, match="neither one night nor the other"), made.watched():
        pass


def test_readers_that_can_not_read_are_heard(tried, monkeypatch):
    made, _ = tried

    def fails(_):
        raise OSError("no such file")

    monkeypatch.setattr(trial, "shown_hash", fails)
    with pytest.raises(AssertionError, match="readers were refused"), made.watched():
        pass


TRACES = [
    'Traceback (most recent call last):\n  File "x.py", line 1',
    "run_night: failed\n\tat org.apache.spark.sql.Dataset.collect(Dataset.scala:1)",
    "py4j.protocol.Py4JJavaError: An error occurred",
    "java.io.IOException: No space left on device",
]


@pytest.mark.parametrize("said", ["", "\n", *TRACES])
def test_anything_but_a_sentence_is_noticed(said):
    with pytest.raises(AssertionError):
        require_one_sentence(said)


def test_a_sentence_passes():
    require_one_sentence("run_night: there is no space left on a disk: free some, and run it again\n")


DAY, LAST = "2025-03-06", "2025-03-07"
RANGE = ("backfill_profiles", "--start", DAY, "--end", LAST)


@pytest.mark.parametrize(
    ("said", "command"),
    [
        (
            f"{DAY} is not published; run that day first (or backfill from it), so that",
            ("run_night", "--date", DAY),
        ),
        (f"{DAY} was ingested and not finished since; run that day first", ("run_night", "--date", DAY)),
        (f"the range {DAY}..{LAST} was folded; run {' '.join(RANGE)}, which publishes both", RANGE),
        (f"items: what was written is gone; run run_night --date {DAY} first", ("run_night", "--date", DAY)),
        ("put the settings back, or run backfill_profiles --rebuild", ("backfill_profiles", "--rebuild")),
    ],
)
def test_the_command_that_a_refusal_names_is_found(said, command):
    assert advised(said, night(3)) == command


def test_a_refusal_that_names_no_command_is_noticed():
    with pytest.raises(AssertionError, match="names no command"):
        advised("something is wrong", night(3))
