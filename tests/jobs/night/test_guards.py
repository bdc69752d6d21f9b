"""Which days a publication would show unfinished, and what the refusal says to run."""

import re
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.io.days import Days
from jobs.io.history import ONE_DAY, Record, first_hole, history_of, in_order, refuse_holes, standing
from jobs.io.messages import JobError
from jobs.night.guards import (
    day_states,
    is_shown,
    refuse_ingest,
    refuse_maintenance,
    refuse_thinned,
    refuse_unfinished,
    unfinished_days,
    unfinished_ingests,
)
from schemas.settings import Settings
from tests.jobs.run_records import DAY, NEXT, ON_DAY, days, published, record

EVENTS = ("behavior_events", "text_embeddings")


def ingested(of, minute, run_id="s", status="done", wrote=EVENTS):
    return record("ingest_events", status, of, minute, run_id, wrote=wrote)


# ---- folded and undone days


@pytest.mark.parametrize("status", ["started", "failed", "done"])
def test_a_later_folded_day_is_not_published_with_an_older_one(status):
    ordered = [published(1), record("fold_profiles", status, days(1), minute=2)]
    with pytest.raises(JobError, match=f"{NEXT} was folded and is not published"):
        refuse_unfinished(ordered, ON_DAY)
    refuse_unfinished(ordered, days(1))
    # A fold that goes no further than the publication shows nothing later, however early it began.
    refuse_unfinished([*ordered, record("fold_profiles", status, days(-1, 1), minute=3)], days(1))


def test_a_rolled_back_day_is_not_published_with_another_one():
    first, second = published(1), published(2, days(1), run_id="s")
    again = published(3, attempt=2)
    undone = replace(again, status="undone", sequence=4)
    ordered = [first, second, again, undone]
    with pytest.raises(JobError, match=f"{DAY} was rolled back"):
        refuse_unfinished(ordered, days(2))
    refuse_unfinished(ordered, ON_DAY)
    refuse_unfinished([*ordered, published(5, attempt=3)], days(2))


# ---- ingested days


@pytest.mark.parametrize(
    ("status", "wrote", "blocks"),
    [
        ("started", (), True),
        ("done", EVENTS, True),
        ("done", ("items",), True),
        ("failed", ("items",), True),
        ("failed", EVENTS, True),
        ("done", (), False),
        ("done", ("quarantined_events",), False),
        ("failed", (), False),
        ("failed", ("quarantined_events",), False),
    ],
)
def test_an_ingest_blocks_later_days_where_it_may_have_changed_events(status, wrote, blocks):
    started = ingested(ON_DAY, 2, status="started", wrote=())
    ordered = [started, published(1, days(0, 3)), ingested(ON_DAY, 3, status=status, wrote=wrote)]
    assert len(unfinished_ingests(ordered)) == blocks
    if blocks:
        sentence = f"^{DAY} was ingested and not finished since; run that day first$"
        with pytest.raises(JobError, match=sentence):
            refuse_unfinished(ordered, days(4))
    else:
        refuse_unfinished(ordered, days(4))
    refuse_unfinished(ordered, ON_DAY)
    refuse_unfinished([*ordered, published(4, run_id="s")], days(4))
    # A publication that was rolled back finishes nothing.
    undone = published(4, run_id="s")
    assert len(unfinished_ingests([*ordered, undone, replace(undone, status="undone")])) == blocks


def test_an_ingest_of_a_range_is_finished_once_every_day_of_it_is_published():
    range_, first, second = ingested(days(0, 1), 2), published(3), published(4, days(1), run_id="t")
    assert unfinished_ingests([range_, first]) == unfinished_ingests([range_, second]) == [range_]
    assert unfinished_ingests([range_, first, second]) == []


def test_a_day_that_was_ingested_ahead_blocks_no_earlier_day():
    ordered = [published(1, days(0, 3)), ingested(days(5), 2)]
    refuse_unfinished(ordered, days(4))
    refuse_unfinished(ordered, days(-2, -1))


def test_days_are_ingested_ahead_and_again_but_no_night_starts_on_an_unfinished_day():
    again, ahead = ingested(days(1), 2), ingested(days(4), 2, run_id="t")
    shown, later = published(1, days(0, 3)), days(5).first
    refuse_ingest([shown, ahead], later)
    for day in days(0, 3):
        refuse_ingest([shown, again], day)
    refuse_ingest([again, ahead], later)
    for day in days(0, 3):
        again = ingested(Days.only(day), 2)
        with pytest.raises(JobError, match=f"{day} was ingested and not finished since; run that day first"):
            refuse_ingest([shown, again, ahead], later)


def test_a_rebuild_finishes_only_the_last_day():
    shown, history = published(1, days(0, 3)), days(0, 3)
    for day, blocks in ((0, True), (2, True), (3, False)):
        ordered = [shown, ingested(days(day), 2)]
        refuse_unfinished(ordered, history)
        if blocks:
            with pytest.raises(JobError, match="was ingested and not finished since"):
                refuse_unfinished(ordered, history, compared_from=history.last)
        else:
            refuse_unfinished(ordered, history, compared_from=history.last)


# ---- maintenance

KEPT = Settings.model_validate({"fold": {"window_days": 2}, "maintenance": {"thin_after_days": 3}})


def test_a_day_whose_states_were_thinned_out_is_not_run_again():
    ordered = [published(1, days(0, 9)), record("maintain_tables", of=days(9), minute=2)]
    refused, first = days(5).first, days(6).first
    with pytest.raises(JobError, match=f"{refused} can't be run again: .*; run days from {first} on"):
        refuse_thinned(ordered, KEPT, refused)
    refuse_thinned(ordered, KEPT, first)
    refuse_thinned(ordered, KEPT, days(-1).first)
    ordered.append(record("maintain_tables", of=days(8), minute=3, run_id="m"))  # of an older day, later
    refuse_thinned(ordered, KEPT, first)
    with pytest.raises(JobError, match=f"run days from {first} on"):
        refuse_thinned(ordered, KEPT, refused)


@pytest.mark.parametrize(
    ("job", "status", "wrote", "thinned"),
    [
        ("maintain_tables", "done", ("profile_states",), True),
        ("maintain_tables", "done", ("items",), False),
        ("maintain_tables", "failed", ("profile_states",), True),
        ("maintain_tables", "failed", (), False),
        ("maintain_tables", "started", (), True),  # killed, so nobody knows
        ("fold_profiles", "done", ("profile_states",), False),
    ],
)
def test_maintenance_that_may_have_thinned_before_it_ended_counts(job, status, wrote, thinned):
    begun = record(job, "started", days(9), 2, wrote=())
    ordered = [published(1, days(0, 9)), begun, record(job, status, days(9), 2, wrote=wrote)]
    with pytest.raises(JobError, match="can't be run again") if thinned else nullcontext():
        refuse_thinned(ordered, KEPT, DAY)


def test_maintenance_waits_for_ingested_days_that_it_would_make_impossible_to_finish():
    shown = published(1, days(0, 9))
    # As of day 9 it keeps all states from day 4 on, and the night of day 6 compares those from day 4 on.
    with pytest.raises(JobError, match=f"{days(5).first} was ingested and not finished since; run that day"):
        refuse_maintenance([shown, ingested(days(5), 2)], days(9).first, KEPT)
    refuse_maintenance([shown, ingested(days(6), 2)], days(9).first, KEPT)
    refuse_maintenance([shown], days(9).first, KEPT)


# ---- states of days


def test_every_day_has_the_state_of_its_last_unfinished_work():
    rolled_back = published(2, days(4), run_id="t")
    ordered = [
        published(1, days(0, 3)),
        record("fold_profiles", of=days(4), minute=2, run_id="t"),
        rolled_back,
        replace(rolled_back, status="undone", sequence=3),
        record("fold_profiles", of=days(5, 6), minute=4, run_id="u"),
        ingested(days(1), 5),
        ingested(days(8), 5, run_id="v"),
    ]
    assert list(day_states(ordered).items()) == [
        (days(0).first, "published"),
        (days(1).first, "ingested"),
        (days(2).first, "published"),
        (days(3).first, "published"),
        (days(4).first, "undone"),
        (days(5).first, "folded"),
        (days(6).first, "folded"),
        (days(8).first, "ingested"),
    ]


def test_a_day_is_published_once_a_publication_covers_it_and_nothing_was_run_since():
    assert day_states([]) == {}
    assert day_states([ingested(ON_DAY, 1, "r")]) == {DAY: "ingested"}
    chain = [ingested(ON_DAY, 1, "r"), record("fold_profiles", minute=2)]
    assert day_states(chain) == {DAY: "folded"}
    assert day_states([*chain, ingested(ON_DAY, 3, "s")]) == {DAY: "ingested"}
    assert day_states([*chain, published(4)]) == {DAY: "published"}


def test_part_of_a_range_may_be_settled():
    ordered = [
        published(1, days(0, 1)),
        record("fold_profiles", of=days(1, 3), minute=2),
        published(3, days(2), run_id="s"),
    ]
    assert day_states(ordered) == {
        days(0).first: "published",
        days(1).first: "published",
        days(2).first: "published",
        days(3).first: "folded",
    }
    (found,) = unfinished_days(ordered)
    assert (found.state, found.days, found.of_record) == ("folded", days(3), days(1, 3))
    assert is_shown(found, days(2), days(2).first) and not is_shown(found, days(3), days(3).first)


# ---- the command that a refusal names


@pytest.mark.parametrize(
    ("more", "own", "command"),
    [
        pytest.param(
            [
                record("backfill_profiles", "started", days(-5, -1), run_id="b", minute=2, wrote=()),
                ingested(days(-5, -4), 3, "b", wrote=()),
                ingested(days(-3, -2), 4, "b"),
            ],
            4,
            (-5, -1),
            id="a chunk of a backfill: all of it, which continues where it was",
        ),
        pytest.param(
            [ingested(days(-9), 2, "b")],
            4,
            (-9, -1),
            id="an ingest by hand, far before the history: up to it",
        ),
        pytest.param([record("fold_profiles", of=days(4, 6), minute=2)], 4, (4, 6), id="a folded range"),
        pytest.param(
            [record("fold_profiles", of=days(6), minute=2)],
            4,
            (4, 6),
            id="a folded day after the history: from its end on",
        ),
        pytest.param(
            [ingested(days(0), 2, "b"), record("fold_profiles", of=days(4), minute=3)],
            4,
            (0, 4),
            id="a step that the scheduler ran before the refusal blocks the old day",
        ),
        pytest.param(
            [
                published(2, days(4), run_id="d"),
                published(3, days(5), run_id="e"),
                record("publish_run", "undone", days(5), run_id="e", minute=4),
                record("publish_run", "undone", days(4), run_id="d", minute=5),
            ],
            4,
            (4, 5),
            id="two nights that were rolled back one after the other",
        ),
    ],
)
def test_a_range_is_named_where_no_day_of_it_can_be_run_alone(more, own, command):
    span = days(*command)
    sentence = (
        f"; run backfill_profiles --start {span.first} --end {span.last}( first|, which publishes both)$"
    )
    with pytest.raises(JobError, match=sentence):
        refuse_unfinished([published(1, days(0, 3)), *more], days(own))


@pytest.mark.parametrize(
    ("last", "command"),
    [(0, "that day"), (1, "backfill_profiles --rebuild"), (3, "backfill_profiles --rebuild")],
)
def test_a_rebuild_that_was_rolled_back_is_run_again(last, command):
    history = days(0, last)
    rebuilt = published(2, history, run_id="b")
    ordered = [published(1, history), rebuilt, replace(rebuilt, status="undone", sequence=3)]
    with pytest.raises(JobError, match=f"{history} was rolled back .*; run {command} first$"):
        refuse_unfinished(ordered, days(last + 1))


# ---- any sequence of operations

MIDNIGHT = datetime(2025, 3, 9, tzinfo=UTC)


class World:
    """A warehouse of records alone: what jobs record, which events no fold has compared, what readers see."""

    def __init__(self, draw_hours=lambda: 0):
        self.ordered, self.draw_hours, self.uncompared = [], draw_hours, set()

    def note(self, job, status, of, run_id, wrote=()):
        own = [r for r in self.ordered if (r.run_id, r.job) == (run_id, job)]
        attempt = sum(r.status == "started" for r in own) + (status == "started")
        versions = dict.fromkeys(wrote, 1)
        self.ordered.append(
            Record(run_id, job, attempt, status, of, self.next(), self.clock, {}, versions, {})
        )

    def next(self):
        """The number of the next record. The clock of its machine says anything."""
        self.clock = MIDNIGHT + timedelta(hours=self.draw_hours())
        return len(self.ordered) + 1

    def run(self, of, killed_in=None, changes=False, by_steps=False, begins=True, rebuild=False):
        """A night or a range, in chunks of two days.

        Where its steps are run alone, only the ingest is guarded; without `begins` it ran at another time.
        """
        compared_from = of.last if rebuild else of.first
        if not rebuild:
            refuse_holes(standing(self.ordered), of, bootstrap=True, first_day=None)
        if not by_steps and not rebuild:
            refuse_unfinished(self.ordered, of)
        if by_steps and begins:
            refuse_ingest(self.ordered, of.first)
        run_id = f"{'rebuild' if rebuild else 'run'}-{of}"
        self.note("composite", "started", of, run_id)
        for chunk in [] if rebuild else of.chunks(2):
            self.note("ingest_events", "started", chunk, run_id)
            if killed_in == "read":
                return
            if changes:
                self.uncompared |= {*chunk}
            if killed_in == "ingest":
                return
            self.note("ingest_events", "done", chunk, run_id, EVENTS if changes else ())
        self.note("fold_profiles", "started", of, run_id)
        self.uncompared = {day for day in self.uncompared if not compared_from <= day <= of.last}
        if killed_in == "fold":
            return
        self.note("fold_profiles", "done", of, run_id)
        refuse_unfinished(self.ordered, of, compared_from)
        # Readers see nothing that no fold has compared, except what was ingested ahead.
        assert not [day for day in self.uncompared if day < of.first]
        self.note("publish_run", "started", of, run_id)
        self.note("publish_run", "published", of, run_id)

    def rebuild(self):
        history = history_of(standing(self.ordered))
        if history is not None:
            self.run(history, rebuild=True)

    def undo(self):
        shown = standing(self.ordered)
        if shown:
            number = self.next()
            self.ordered.append(replace(shown[-1], status="undone", sequence=number, written=self.clock))

    def follow(self, refusal):
        """Runs what a refusal names."""
        if refusal.endswith("backfill_profiles --rebuild first"):
            self.rebuild()
            return
        dates = [date.fromisoformat(day) for day in re.findall(r"\d{4}-\d\d-\d\d", refusal)]
        is_one_day = re.match(r"\S+ was .*; run that day", refusal)
        self.run(Days(*(dates * 2 if is_one_day else dates[-2:])))

    def newest(self):
        """The last published day."""
        history = history_of(standing(self.ordered))
        return DAY if history is None else history.last


OPERATIONS = st.one_of(
    st.fixed_dictionaries(
        {
            "at": st.integers(-6, 4),
            "length": st.sampled_from((1, 1, 1, 2, 3, 5)),
            "changes": st.booleans(),
            "by_steps": st.booleans(),
            "begins": st.booleans(),
            "killed_in": st.sampled_from((None, "read", "ingest", "fold")),
        }
    ),
    st.sampled_from(("undo", "rebuild")),
)


@settings(max_examples=200, deadline=None)
@given(operations=st.lists(OPERATIONS, max_size=12))
def test_nothing_unfinished_is_shown_and_what_a_refusal_names_can_be_run(operations):
    world = World()
    world.run(days(0, 3), changes=True)
    for operation in operations:
        perform(world, operation)
        assert_states_explain_refusals(world)
    night = Days.only(world.newest() + ONE_DAY)
    for _ in range(20):
        try:
            world.run(night)
            break
        except JobError as refused:
            world.follow(str(refused))  # is not refused
    assert first_hole(standing(world.ordered), night) is None


def perform(world, operation):
    """Does what was drawn; returns the refusal, if it is refused."""
    try:
        if operation == "undo":
            world.undo()
        elif operation == "rebuild":
            world.rebuild()
        else:
            # Counted from the end of the history, so that nights follow each other.
            how = dict(operation)
            first = world.newest() + timedelta(days=how.pop("at"))
            world.run(Days(first, first + timedelta(days=how.pop("length") - 1)), **how)
    except JobError as refused:
        return str(refused)
    return None


@settings(max_examples=100, deadline=None)
@given(st.lists(OPERATIONS, max_size=8), st.randoms(use_true_random=False))
def test_no_decision_rests_on_a_clock(operations, random):
    right, wrong = World(), World(lambda: random.randint(-10_000, 10_000))
    for operation in [{"at": 1, "length": 4}, *operations]:
        assert perform(right, operation) == perform(wrong, operation)
        # In whatever order the rows are read.
        shuffled = random.sample(wrong.ordered, len(wrong.ordered))
        assert in_order(shuffled) == wrong.ordered
        assert [p.key for p in standing(wrong.ordered)] == [p.key for p in standing(right.ordered)]
        assert day_states(wrong.ordered) == day_states(right.ordered)
        assert unfinished_of(wrong) == unfinished_of(right)


def unfinished_of(world):
    return [(u.state, u.days, u.since, u.by_rebuild) for u in unfinished_days(world.ordered)]


def assert_states_explain_refusals(world):
    """Where the next night is refused, some day is shown unfinished."""
    try:
        refuse_unfinished(world.ordered, Days.only(world.newest() + ONE_DAY))
    except JobError:
        assert set(day_states(world.ordered).values()) - {"published"}
