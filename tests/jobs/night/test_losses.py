"""Which losses the records and commits tell of, who makes them good, and what the refusal says to run."""

from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import chain, count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.io.days import Days
from jobs.io.history import PUBLISHER, Record
from jobs.night.losses import Loss, first_to_heal, is_made_good, lost_outputs, refusal, unrecorded
from schemas.pipeline_runs import DONE, PUBLISHED, STARTED, UNDONE
from tests.conftest import ROOT
from tests.jobs.run_records import DAY, ON_DAY, at, days, record

# The tables that nights write here, by the step that writes each.
STEPS = {
    "ingest_events": "behavior_events",
    "embed_texts": "text_embeddings",
    "fold_profiles": "profile_states",
}
NAMES = sorted(STEPS.values())
# What other jobs write here: a maintenance and an erasure change a night's table, too.
OTHERS = {
    "recommend_items": ["recommendations"],
    "train_ranker": ["ranking_models"],
    "maintain_tables": ["profile_states"],
    "erase_users": ["behavior_events", "erased_users"],
}


@dataclass
class World:
    """Records, and the commits of each table by their numbers; each commit ever made has its own hash."""

    ordered: list[Record] = field(default_factory=list)
    tables: dict[str, list[str]] = field(default_factory=dict)
    hashes: count = field(default_factory=count)

    def present(self) -> dict[str, int]:
        return {name: len(commits) - 1 for name, commits in self.tables.items() if commits}

    def commit(self, name: str, version: int) -> str:
        return self.tables[name][version]

    def write(self, name: str) -> None:
        self.tables.setdefault(name, []).append(f"commit {next(self.hashes)}")

    def note(self, job: str, of: Days, run_id: str, wrote, status: str = DONE, began=None) -> None:
        present = self.present()
        versions = {name: present[name] for name in wrote if name in present}
        found = {name: self.commit(name, version) for name, version in versions.items()}
        number, began = len(self.ordered) + 1, self.present() if began is None else began
        self.ordered.append(Record(run_id, job, 1, status, of, number, at(0), began, versions, found))

    def other(self, job: str, of: Days) -> None:
        began = self.present()
        for name in OTHERS[job]:
            self.write(name)
        self.note(job, of, f"{job}-{len(self.ordered)}", OTHERS[job], began=began)

    def night(self, of: Days, changed=NAMES, publish: bool = True, lists: bool = False) -> None:
        run_id, at_begin = f"night-{len(self.ordered)}", self.present()
        for job, name in STEPS.items():
            began = self.present()
            self.note(job, of, run_id, (), STARTED, began)
            if name in changed:
                self.write(name)
            self.note(job, of, run_id, [name] if name in changed else [], began=began)
        if lists:
            began = self.present()
            self.write("recommendations")
            self.note("recommend_items", of, run_id, ["recommendations"], began=began)
        if publish:
            self.note(PUBLISHER, of, run_id, NAMES, PUBLISHED)
        self.note("run_night", of, run_id, changed, began=at_begin)

    def losses(self) -> list[Loss]:
        return [*lost_outputs(self.ordered, self.present(), self.commit)]


CHANGES = st.lists(st.sets(st.sampled_from(NAMES)), min_size=1, max_size=5)


@settings(deadline=None)
@given(CHANGES, st.dictionaries(st.sampled_from(NAMES), st.tuples(st.integers(0, 6), st.booleans())))
def test_the_days_of_what_is_gone_are_found_and_of_nothing_else(nights, tampered):
    world, expected = World(), set()
    wrote = {name: [] for name in NAMES}
    for number, changed in enumerate(nights):
        world.night(days(number), changed)
        for name in changed:
            wrote[name].append(days(number))
    assert world.losses() == []
    for name, (kept, is_replaced) in tampered.items():
        expected |= {(name, of) for of in wrote[name][kept:]}
        gone = len(world.tables.get(name, [])) - kept
        world.tables[name] = world.tables.get(name, [])[:kept]
        for _ in range(gone if is_replaced else 0):
            world.write(name)
    losses = world.losses()
    assert {(loss.table, loss.days) for loss in losses} == expected
    jobs = {name: job for job, name in STEPS.items()}
    assert all(loss.job == jobs[loss.table] for loss in losses)
    if losses:
        first, last = min(o.days.first for o in losses), max(o.days.last for o in losses)
        span = f"--date {last}" if first == last else f"--start {first} --end {last}"
        assert f" {span} first" in refusal(losses, world.ordered)
        assert all(is_made_good(loss, "ingest_events", Days(first, last)) for loss in losses)
        # What is named writes everything again.
        world.night(Days(first, last))
        assert world.losses() == []


@settings(deadline=None)
@given(CHANGES, st.integers(1, 6))
def test_later_versions_than_any_record_names_are_no_loss(nights, more):
    world = World()
    for number, changed in enumerate(nights):
        world.night(days(number), changed)
    for number in range(more):
        world.write(NAMES[number % len(NAMES)])
    assert world.losses() == []


def test_a_commit_whose_file_is_cleaned_up_is_no_loss():
    world = World()
    world.night(ON_DAY)
    assert [*lost_outputs(world.ordered, world.present(), lambda name, version: None)] == []


def test_a_rollback_names_older_versions_and_no_others():
    world = World()
    world.night(ON_DAY)
    world.night(days(1))
    world.note(PUBLISHER, days(1), "night-0", NAMES, UNDONE)
    world.ordered[-1] = replace(world.ordered[-1], output_versions=dict.fromkeys(NAMES, 0), output_commits={})
    assert world.losses() == []
    world.tables["profile_states"].pop()
    assert [(loss.table, loss.days) for loss in world.losses()] == [("profile_states", days(1))]


def test_a_publication_of_an_older_version_hides_no_loss():
    """A training was stored between the check of a night and its publication."""
    world = World()
    world.other("train_ranker", days(0))
    world.other("train_ranker", days(1))
    world.note(PUBLISHER, days(2), "night", ["ranking_models"], PUBLISHED)
    world.ordered[-1] = replace(
        world.ordered[-1],
        output_versions={"ranking_models": 0},
        output_commits={"ranking_models": world.commit("ranking_models", 0)},
    )
    assert world.losses() == []
    world.tables["ranking_models"].pop()
    assert {(loss.job, loss.days) for loss in world.losses()} == {("train_ranker", days(1))}


def test_versions_that_only_a_publication_names_are_lost_with_its_days():
    world = World()
    world.write("profile_states")  # by a job that was killed
    world.note(PUBLISHER, days(1), "r", NAMES, PUBLISHED)
    world.tables["profile_states"].clear()
    assert [(o.table, o.job, o.days) for o in world.losses()] == [
        ("profile_states", "fold_profiles", days(1))
    ]


def test_the_table_s_own_job_settles_a_loss_that_leaves_it_nothing_to_write():
    world = World()
    world.night(ON_DAY)
    world.night(days(1))
    world.tables["profile_states"].pop()
    (loss,) = world.losses()
    assert loss.days == days(1)
    world.note("fold_profiles", ON_DAY, "s", ())
    assert world.losses() == [loss]
    world.note("fold_profiles", days(0, 1), "s", (), STARTED)
    assert world.losses() == [loss]
    world.note("fold_profiles", days(0, 1), "s", ())
    assert world.losses() == []


@pytest.mark.parametrize(
    ("lost", "job", "good"),
    [
        ("fold_profiles", "ingest_events", True),
        ("fold_profiles", "embed_texts", True),
        ("fold_profiles", "fold_profiles", True),
        ("fold_profiles", "check_tables", False),
        ("ingest_events", "embed_texts", False),
        ("ingest_events", "publish_run", False),
        ("ingest_events", "maintain_tables", False),
        ("maintain_tables", "maintain_tables", True),
        ("maintain_tables", "ingest_events", False),
        ("maintain_tables", "upgrade_tables", False),
    ],
)
def test_only_what_begins_with_the_lost_job_or_before_makes_a_loss_good(lost, job, good):
    loss = Loss("t", lost, "r", days(1, 2))
    assert is_made_good(loss, job, days(0, 3)) == is_made_good(loss, job, days(1, 2)) == good
    if job != lost or job == "fold_profiles":
        assert not is_made_good(loss, job, days(1)) and not is_made_good(loss, job, days(2, 3))


def test_later_jobs_are_named_after_the_nights():
    world = World()
    world.night(ON_DAY)
    world.write("profile_states")
    world.note("maintain_tables", ON_DAY, "m", ["profile_states"])
    world.tables["profile_states"].pop()
    assert [(o.table, o.job) for o in world.losses()] == [("profile_states", "maintain_tables")]
    assert refusal(world.losses(), world.ordered).endswith("; run maintain_tables again first")
    world.tables["profile_states"].pop()
    said = refusal(world.losses(), world.ordered)
    assert said.endswith(f"; run run_night --date {DAY}, then maintain_tables again first")


def test_a_rebuild_is_named_as_one():
    world, history = World(), days(0, 3)
    for day in history:
        world.night(Days.only(day))
    world.write("profile_states")
    world.note("fold_profiles", history, "rebuild", ["profile_states"])
    world.note(PUBLISHER, history, "rebuild", NAMES, PUBLISHED)
    world.tables["profile_states"].pop()
    (loss,) = world.losses()
    assert loss.days == history
    assert refusal([loss], world.ordered).endswith("; run backfill_profiles --rebuild first")
    assert is_made_good(loss, "embed_texts", history)


def test_an_unfinished_day_is_part_of_the_range_that_is_named():
    world = World()
    for number in range(5):
        world.night(days(number))
    world.note("ingest_events", days(1), "s", ["behavior_events"])
    world.write("behavior_events")
    world.note("ingest_events", days(1), "s", ["behavior_events"])
    world.tables["profile_states"].pop()
    said = refusal(world.losses(), world.ordered)
    assert said.endswith(f"run backfill_profiles --start {days(1).first} --end {days(4).last} first")


# ---- there is always a command that heals


def begins(said: str) -> tuple[str, Days]:
    """The job that a refusal names first, as the arguments of its parser have it, and its days."""
    name, *words = said.split("; run ")[1].removesuffix(" first").split(", then ")[0].split()
    parser = import_module(f"jobs.{name}").arg_parser()
    if words == ["again"]:
        return name, ON_DAY
    logs = ["--logs", str(ROOT)] if name in ("run_night", "backfill_profiles") else []
    args = parser.parse_args([*words, *logs, "--warehouse", "w"])
    return name, Days.only(args.date) if "date" in args else Days(args.start, args.end)


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["run_night", *OTHERS]), st.integers(0, 3)), min_size=1, max_size=8
)


@settings(deadline=None)
@given(
    OPERATIONS,
    st.dictionaries(
        st.sampled_from(sorted({*NAMES, *chain.from_iterable(OTHERS.values())})), st.integers(0, 4)
    ),
    st.booleans(),
)
def test_whatever_is_lost_one_command_after_the_other_heals_it(operations, kept, lists):
    world = World()
    for job, number in operations:
        if job == "run_night":
            world.night(days(number), lists=lists)
        else:
            world.other(job, days(number))
    for name, count_kept in kept.items():
        world.tables[name] = world.tables.get(name, [])[:count_kept]
    for _ in range(12):
        if not (losses := world.losses()):
            return
        job, own = begins(refusal(losses, world.ordered))
        step = "ingest_events" if job in ("run_night", "backfill_profiles") else job
        assert all(is_made_good(loss, step, own) for loss in first_to_heal(losses))
        if step != job:
            world.night(own, lists=lists)
        else:
            world.other(job, own)
    raise AssertionError("it goes on for ever")


def test_lists_wait_for_the_night_and_for_their_model():
    world = World()
    for number in range(3):
        world.night(days(number), lists=number > 0)
    world.other("train_ranker", days(0, 1))
    world.tables = {name: commits[:2] for name, commits in world.tables.items()}
    world.tables |= {"ranking_models": [], "recommendations": []}
    said = refusal(world.losses(), world.ordered)
    span = f"--start {days(1).first} --end {days(2).last}"
    assert f"run backfill_profiles {span}, then train_ranker again first" in said
    world.night(days(1, 2))
    said = refusal(world.losses(), world.ordered)
    assert f"run train_ranker --start {DAY} --end {days(1).last}, then recommend_items again first" in said
    assert not any(is_made_good(o, "ingest_events", days(0, 9)) for o in first_to_heal(world.losses()))
    world.other("train_ranker", days(0, 1))
    said = refusal(world.losses(), world.ordered)
    assert f"run recommend_items --date {days(2).last} --all first" in said


# ---- runs without a record


def noted(job="fold_profiles", of=ON_DAY, run_id="gone"):
    note = {"job": job, "run_id": run_id, "from_date": str(of.first), "date": str(of.last)}
    return lambda table: note if table.name == "profile_states" else {}


def test_a_commit_of_a_run_without_record_tells_that_records_are_gone():
    shown = record(PUBLISHER, PUBLISHED, wrote=("profile_states",), minute=4)
    present = {"profile_states": 5}
    found = [*unrecorded([shown], present, noted(of=days(1, 2)))]
    assert found == [Loss("pipeline_runs", "fold_profiles", "gone", days(1, 2))]
    assert [*unrecorded([shown], {"profile_states": 4}, noted())] == []
    # A job that was killed has recorded its start.
    killed = record("fold_profiles", STARTED, run_id="gone", minute=5, wrote=())
    assert [*unrecorded([shown, killed], present, noted())] == []
    # The commit that creates a table names nobody.
    assert [*unrecorded([shown], present, lambda table: {})] == []


def test_the_job_that_ran_again_on_it_settles_a_run_without_record():
    shown = record(PUBLISHER, PUBLISHED, wrote=("profile_states",), minute=4)
    again = replace(
        record("fold_profiles", of=ON_DAY, minute=6, wrote=()), input_versions={"profile_states": 5}
    )
    present = {"profile_states": 5}
    assert [*unrecorded([shown, again], present, noted())] == []
    for other in (
        replace(again, input_versions={"profile_states": 4}),
        replace(again, status=STARTED),
        replace(again, job="embed_texts"),
        replace(again, days=days(1)),
    ):
        assert len([*unrecorded([shown, other], present, noted())]) == 1


# ---- every command


def test_every_job_that_writes_a_warehouse_asks_for_losses():
    sources = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "jobs").glob("*.py")}
    writing = {name for name, text in sources.items() if "recorded(" in text or "open_writer(" in text}
    writing |= {name for name, text in sources.items() if "publication import" in text}
    assert len(writing) >= 9
    assert {name for name in writing if "refuse_losses(" not in sources[name]} == set()
