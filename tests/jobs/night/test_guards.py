"""What readers see after publications and undoings, and what must be done before a night is published."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.io.history import Record, first_hole, refuse_holes, standing
from jobs.io.messages import JobError
from jobs.night.estimate import done_chunks
from jobs.night.guards import refuse_begun, refuse_thinned, refuse_unfinished, unfinished_ingests
from jobs.night.publication import CHAIN, require_chain
from jobs.show_runs import next_step
from schemas.settings import Settings

DAY = date(2025, 3, 3)
NEXT = DAY + timedelta(days=1)
VERSIONS = {"profile_states": 3, "user_profiles": 2}


def record(
    job, status="done", first=DAY, last=DAY, minute=0, run_id="r", attempt=1, wrote=("profile_states",)
):
    moment = datetime(2025, 3, 9, 1, minute, tzinfo=UTC)
    ended = None if status == "started" else moment
    return Record(
        run_id, job, attempt, status, first, last, moment, ended, VERSIONS, dict.fromkeys(wrote, minute)
    )


def published(minute, **more):
    return record("publish_run", "published", minute=minute, **more)


def test_the_last_publication_that_was_not_undone_stands():
    first, second = published(1), published(2, first=NEXT, last=NEXT, run_id="s")
    undone = replace(second, status="undone", ended=datetime(2025, 3, 9, 1, 3, tzinfo=UTC))
    again = published(4, first=NEXT, last=NEXT, run_id="s", attempt=2)
    assert standing([first, second]) == [first, second]
    assert standing([first, second, undone]) == [first]
    assert standing([first, second, undone, again]) == [first, again]


def test_after_an_undoing_the_day_is_a_hole():
    with pytest.raises(JobError, match=f"{NEXT} is not published"):
        refuse_holes(
            [published(1)],
            NEXT + timedelta(days=1),
            NEXT + timedelta(days=1),
            bootstrap=False,
            first_day=None,
        )


def chain(*statuses):
    return [
        record(job, status, minute=i) for i, (job, status) in enumerate(zip(CHAIN, statuses, strict=True))
    ]


def test_a_whole_chain_may_be_published():
    require_chain(chain("done", "done", "done", "done"), VERSIONS, DAY, DAY)


@pytest.mark.parametrize("missing", CHAIN)
def test_a_job_that_was_not_done_is_named(missing):
    done = [r for r in chain("done", "done", "done", "done") if r.job != missing]
    with pytest.raises(JobError, match=f"{missing} has not done {DAY}"):
        require_chain(done, VERSIONS, DAY, DAY)


def test_a_failed_check_is_not_outlived_by_an_older_one():
    later = record("check_tables", "failed", minute=9)
    with pytest.raises(JobError, match="check_tables failed on 2025-03-03 the last time"):
        require_chain([*chain("done", "done", "done", "done"), later], VERSIONS, DAY, DAY)


def test_what_changed_since_its_check_must_be_checked_again():
    now = VERSIONS | {"user_profiles": 3, "check_results": 9, "pipeline_runs": 9}
    with pytest.raises(JobError, match="user_profiles changed after the tables were checked for 2025-03-03"):
        require_chain(chain("done", "done", "done", "done"), now, DAY, DAY)


@pytest.mark.parametrize("status", ["started", "failed", "done"])
def test_a_later_day_that_was_begun_does_not_slip_out_with_an_older_one(status):
    ordered = [published(1), record("fold_profiles", status, first=NEXT, last=NEXT, minute=2)]
    with pytest.raises(JobError, match=f"{NEXT} was folded and is not published"):
        refuse_unfinished(ordered, DAY, DAY)
    refuse_unfinished(ordered, NEXT, NEXT)


def test_what_was_taken_back_does_not_slip_out_with_another_day():
    first, second = published(1), published(2, first=NEXT, last=NEXT, run_id="s")
    again = published(3, attempt=2)
    undone = replace(again, status="undone", ended=datetime(2025, 3, 9, 1, 4, tzinfo=UTC))
    third = NEXT + timedelta(days=1)
    with pytest.raises(JobError, match=f"{DAY} was taken back"):
        refuse_unfinished([first, second, again, undone], third, third)
    refuse_unfinished([first, second, again, undone], DAY, DAY)
    refuse_unfinished([first, second, again, undone, published(5, attempt=3)], third, third)


def days(first, last):
    return {"first": DAY + timedelta(days=first), "last": DAY + timedelta(days=last)}


EVENTS = ("behavior_events", "text_embeddings")


@pytest.mark.parametrize(
    ("status", "wrote", "blocks"),
    [("started", (), True), ("done", EVENTS, True), ("done", ("items",), True), ("failed", ("items",), True), ("failed", EVENTS, True),
     ("done", (), False), ("done", ("quarantined_events",), False), ("failed", (), False), ("failed", ("quarantined_events",), False)],
)  # fmt: skip
def test_an_ingest_blocks_later_days_where_it_may_have_changed_events(status, wrote, blocks):
    begun = record("ingest_events", "started", **days(0, 0), minute=2, run_id="s", wrote=())
    ordered = [
        begun,
        published(1, **days(0, 3)),
        record("ingest_events", status, **days(0, 0), minute=3, run_id="s", wrote=wrote),
    ]
    assert len(unfinished_ingests(ordered)) == blocks
    fourth = days(4, 4).values()
    if blocks:
        with pytest.raises(
            JobError, match=f"^{DAY} was ingested and not finished since; run that day first$"
        ):
            refuse_unfinished(ordered, *fourth)
    else:
        refuse_unfinished(ordered, *fourth)
    refuse_unfinished(ordered, **days(0, 0))
    refuse_unfinished([*ordered, published(4, **days(0, 0), run_id="s")], *fourth)
    # A publication that is taken back finishes nothing.
    undone = published(4, **days(0, 0), run_id="s")
    assert len(unfinished_ingests([*ordered, undone, replace(undone, status="undone")])) == blocks


def test_a_day_that_was_ingested_ahead_blocks_no_day_before_it():
    ordered = [
        published(1, **days(0, 3)),
        record("ingest_events", **days(5, 5), minute=2, run_id="s", wrote=EVENTS),
    ]
    refuse_unfinished(ordered, **days(4, 4))
    refuse_unfinished(ordered, **days(-2, -1))


def test_days_are_ingested_ahead_and_again_but_no_night_is_begun_on_an_unfinished_day():
    again = record("ingest_events", **days(1, 1), minute=2, run_id="s", wrote=EVENTS)
    ahead = record("ingest_events", **days(4, 4), minute=2, run_id="t", wrote=EVENTS)
    shown, later = published(1, **days(0, 3)), days(5, 5)["last"]
    refuse_begun([shown, ahead], later)
    refuse_begun([shown, again], days(2, 2)["last"])
    refuse_begun([again, ahead], later)
    with pytest.raises(JobError, match=f"{NEXT} was ingested and not finished since; run that day first"):
        refuse_begun([shown, again, ahead], later)


def test_a_day_whose_states_were_thinned_out_is_not_begun():
    kept = Settings.model_validate({"fold": {"window_days": 2}, "maintenance": {"thin_after_days": 3}})
    ordered = [published(1, **days(0, 9)), record("maintain_tables", **days(9, 9), minute=2)]
    with pytest.raises(
        JobError,
        match=f"{DAY + 5 * (NEXT - DAY)} can't be run again: .*; run days from {DAY + 6 * (NEXT - DAY)} on",
    ):
        refuse_thinned(ordered, kept, days(5, 5)["first"])
    refuse_thinned(ordered, kept, days(6, 6)["first"])
    refuse_thinned(ordered, kept, days(-1, -1)["first"])
    refuse_thinned([ordered[0], replace(ordered[1], output_versions={})], kept, DAY)


def test_a_rebuild_finishes_no_day_but_the_last():
    shown = published(1, **days(0, 3))
    for day, blocks in ((0, True), (2, True), (3, False)):
        ordered = [shown, record("ingest_events", **days(day, day), minute=2, run_id="s", wrote=EVENTS)]
        refuse_unfinished(ordered, **days(0, 3))
        if blocks:
            with pytest.raises(JobError, match="was ingested and not finished since"):
                refuse_unfinished(ordered, **days(0, 3), whole_from=days(3, 3)["last"])
        else:
            refuse_unfinished(ordered, **days(0, 3), whole_from=days(3, 3)["last"])


@pytest.mark.parametrize(
    ("more", "own", "way"),
    [
        # A chunk of a backfill: the whole of it, which goes on where it was.
        ([record("backfill_profiles", "started", **days(-5, -1), run_id="b", minute=2, wrote=()),
          record("ingest_events", **days(-5, -4), run_id="b", minute=3, wrote=EVENTS)], 4, (-5, -1)),
        # An ingest by hand, far before the history: up to it.
        ([record("ingest_events", **days(-9, -9), run_id="b", minute=2, wrote=EVENTS)], 4, (-9, -1)),
        ([record("fold_profiles", **days(4, 6), minute=2)], 4, (4, 6)),
        # The step that the scheduler ran before it was refused is in the old day's way.
        ([record("ingest_events", **days(0, 0), run_id="b", minute=2, wrote=EVENTS),
          record("fold_profiles", **days(4, 4), minute=3)], 4, (0, 4)),
        # Two nights that were taken back one after the other.
        ([published(2, **days(4, 4), run_id="d"), published(3, **days(5, 5), run_id="e"),
          record("publish_run", "undone", **days(5, 5), run_id="e", minute=4),
          record("publish_run", "undone", **days(4, 4), run_id="d", minute=5)], 4, (4, 5)),
    ],
)  # fmt: skip
def test_a_range_is_named_where_no_day_of_it_can_be_run_alone(more, own, way):
    first, last = days(*way).values()
    with pytest.raises(
        JobError,
        match=f"; run backfill_profiles --start {first} --end {last}( first|, which publishes both)$",
    ):
        refuse_unfinished([published(1, **days(0, 3)), *more], **days(own, own))


def test_a_rebuild_that_was_taken_back_is_made_again():
    rebuilt = published(2, **days(0, 3), run_id="b")
    undone = replace(rebuilt, status="undone", ended=datetime(2025, 3, 9, 1, 3, tzinfo=UTC))
    ordered = [published(1, **days(0, 3)), rebuilt, undone]
    with pytest.raises(
        JobError,
        match=f"the range {DAY}..2025-03-06 was taken back .*; run backfill_profiles --rebuild first$",
    ):
        refuse_unfinished(ordered, **days(4, 4))


MIDNIGHT = datetime(2025, 3, 9, tzinfo=UTC)


class World:
    """A warehouse of records alone: what jobs note, which events were never compared, and what readers were shown."""

    def __init__(self):
        self.ordered, self.minute, self.uncompared = [], 0, set()

    def note(self, job, status, first, last, run_id, wrote=()):
        self.minute += 1
        moment = MIDNIGHT + timedelta(minutes=self.minute)
        begun = [r for r in self.ordered if (r.run_id, r.job) == (run_id, job)]
        attempt = sum(r.status == "started" for r in begun) + (status == "started")
        started = moment if status == "started" else begun[-1].started
        ended = None if status == "started" else moment
        self.ordered.append(
            Record(run_id, job, attempt, status, first, last, started, ended, {}, dict.fromkeys(wrote, 1))
        )

    def run(self, first, last, killed_in=None, changes=False, by_steps=False, begins=True, rebuild=False):
        """A night or a range, in chunks of two days; of steps that are run alone the ingest looks less far, or ran at another time."""
        whole_from = last if rebuild else first
        if not rebuild:
            refuse_holes(standing(self.ordered), first, last, bootstrap=True, first_day=None)
        if not by_steps and not rebuild:
            refuse_unfinished(self.ordered, first, last)
        if by_steps and begins:
            refuse_begun(self.ordered, first)
        run_id = f"{'rebuild' if rebuild else 'run'}-{first}-{last}"
        self.note("whole", "started", first, last, run_id)
        for day in (
            [] if rebuild else [first + timedelta(days=n) for n in range(0, (last - first).days + 1, 2)]
        ):
            until = min(day + timedelta(days=1), last)
            self.note("ingest_events", "started", day, until, run_id)
            if killed_in == "read":
                return
            if changes:
                self.uncompared |= {day, until}
            if killed_in == "ingest":
                return
            self.note("ingest_events", "done", day, until, run_id, EVENTS if changes else ())
        self.note("fold_profiles", "started", first, last, run_id)
        self.uncompared = {day for day in self.uncompared if not whole_from <= day <= last}
        if killed_in == "fold":
            return
        self.note("fold_profiles", "done", first, last, run_id)
        refuse_unfinished(self.ordered, first, last, whole_from)
        # Nothing is shown that no fold has seen, but what was ingested ahead.
        assert not [day for day in self.uncompared if day < first]
        self.note("publish_run", "started", first, last, run_id)
        self.note("publish_run", "published", first, last, run_id)

    def undo(self):
        gone = standing(self.ordered)[-1]
        self.minute += 1
        self.ordered.append(replace(gone, status="undone", ended=MIDNIGHT + timedelta(minutes=self.minute)))

    def follow(self, told):
        """Runs what a refusal names."""
        if told.endswith("backfill_profiles --rebuild first"):
            shown = standing(self.ordered)
            return self.run(min(p.first for p in shown), max(p.last for p in shown), rebuild=True)
        dates = [date.fromisoformat(day) for day in re.findall(r"\d{4}-\d\d-\d\d", told)]
        alone = re.match(r"\S+ was .*; run that day", told)
        return self.run(*(dates * 2 if alone else dates[-2:]))


OPERATIONS = st.one_of(
    st.fixed_dictionaries({
        "at": st.integers(-6, 4), "length": st.sampled_from((1, 1, 1, 2, 3, 5)), "changes": st.booleans(), "by_steps": st.booleans(),
        "begins": st.booleans(),
        "killed_in": st.sampled_from((None, "read", "ingest", "fold")),
    }),
    st.sampled_from(("undo", "rebuild")),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(operations=st.lists(OPERATIONS, max_size=12))
def test_nothing_slips_out_and_what_a_refusal_names_can_be_run(operations):
    world = World()
    world.run(DAY, DAY + timedelta(days=3), changes=True)
    for operation in operations:
        shown = standing(world.ordered)
        try:
            if operation == "undo":
                _ = shown and world.undo()
            elif operation == "rebuild":
                _ = shown and world.run(min(p.first for p in shown), max(p.last for p in shown), rebuild=True)
            else:
                # Counted from the history's end, so that nights follow each other.
                more = dict(operation)
                first = max((p.last for p in shown), default=DAY) + timedelta(days=more.pop("at"))
                world.run(first, first + timedelta(days=more.pop("length") - 1), **more)
        except JobError:
            continue
    shown = standing(world.ordered)
    night = max((p.last for p in shown), default=DAY) + timedelta(days=1)
    for _ in range(20):
        try:
            world.run(night, night)
            break
        except JobError as refused:
            world.follow(str(refused))  # is not refused
    assert first_hole(standing(world.ordered), night, night) is None


@pytest.mark.parametrize(
    ("after", "kept"),
    [([], 2), ([("publish_run", "published")], 0), ([("publish_run", "undone")], 0), ([("check_tables", "failed")], 0),
     ([("fold_profiles", "failed")], 2)],
)  # fmt: skip
def test_a_backfill_goes_on_where_it_was_killed_and_begins_anew_where_it_was_judged(after, kept):
    chunks = [record("ingest_events", minute=0), record("ingest_events", first=NEXT, last=NEXT, minute=1)]
    ordered = chunks + [record(job, status, last=NEXT, minute=2 + i) for i, (job, status) in enumerate(after)]
    assert len(done_chunks([*ordered, record("ingest_events", run_id="other", minute=9)], "r")) == kept


def row(job, status, **more):
    return {"run_id": "r", "job": job, "status": status, "date": DAY, "from_date": DAY} | more


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([row("run_night", "done"), row("publish_run", "published")], None),
        ([row("run_night", "failed"), row("fold_profiles", "failed")], "run_night of 2025-03-03 failed"),
        (
            [row("ingest_events", "done"), row("fold_profiles", "failed")],
            "fold_profiles of 2025-03-03 failed",
        ),
        ([row("check_tables", "failed")], "rules do not hold for 2025-03-03"),
        ([row("run_night", "started"), row("embed_texts", "started")], "has not ended"),
        ([row("fold_profiles", "failed", run_id="old"), row("run_night", "done")], None),
        ([], None),
    ],
)
def test_show_runs_says_what_to_do_next(rows, told):
    step = next_step(rows)
    assert step is None if told is None else told in step
