"""Folds the stored events of days into profiles, and repairs the states that late events made dirty."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.fold.dirty import KEY, find_dirty, find_priors, left_alone, point_back
from jobs.fold.facets import with_attributes
from jobs.fold.marks import by_facet, count_fates, count_too_late, mark_events, missed_retractions
from jobs.fold.meaning import FoldMeaning
from jobs.fold.stage import events_per_task, fold_frame, task_count, to_states
from jobs.fold.tables import newest_of_fold, note_of_fold, sound_profiles, write_profiles, write_states
from jobs.io.days import Days, is_in
from jobs.io.messages import JobError
from jobs.io.runs import Run
from jobs.io.warehouse import Writer
from schemas import behavior_events, items, profile_states, rejected_texts, text_embeddings
from schemas.fold_settings import FoldSettings
from schemas.settings import Settings

JOB = "fold_profiles"
# Dirty facets whose keys and days are broadcast, some ten megabytes: then states need no shuffle to meet
# them.
FEW_FACETS = 200_000
# How far back a retraction's target is looked for, to tell one that came too late from one that hits nothing.
LOOK_BACK_DAYS = 90


@dataclass(frozen=True)
class Scope:
    """What a fold works on, resolved once."""

    run: Run
    fold: FoldSettings
    meaning: FoldMeaning
    days: Days
    # Where states and profiles are written, and the facets that are.
    into: Writer
    facets: Collection[str]
    # Both tables as they are, and the newest day of the profiles.
    states: DataFrame
    profiles: DataFrame
    newest: date | None
    # The last day to which users are replayed, and the days whose states are compared with their events.
    horizon: date
    compared: Days


@dataclass(frozen=True)
class Comparison:
    """The events in reach by facet, and the dirty facets among them."""

    events: DataFrame
    dirty: DataFrame
    changed: int
    # Events to fold: at most this many, or exactly; and about how many distinct texts they have.
    most_events: int
    is_exact: bool
    texts: int
    embeddings: DataFrame


@dataclass(frozen=True)
class Folded:
    """New states (udfs/fold/contract.py OUTPUT_SCHEMA), their priors, and the days that change."""

    output: DataFrame
    dirty: DataFrame
    priors: DataFrame
    facets: int
    # Days of states that are replaced, of latest states before, of new states, and of new latest states.
    replaced: set[date]
    left: set[date]
    fresh: set[date]
    last: set[date]


def fold_days(
    run: Run,
    settings: Settings,
    days: Days,
    into: Writer | None = None,
    facets: Collection[str] | None = None,
    compared_from: date = date.min,
) -> None:
    """Folds the days and what is dirty in the window before them.

    Two commits, or none where everything is folded.

    into: where states and profiles are written, by default the warehouse. facets: those to fold, by default
    all. compared_from: days before it are counted, and taken for folded.
    """
    scope = open_scope(run, settings, days, into or run.writer, facets, compared_from)
    with run.phase("compare"):
        comparison = compare(scope)
    if not comparison.changed:
        return
    with run.phase("fold"):
        folded = fold(scope, comparison)
    with run.phase("write"):
        commit(scope, comparison, folded)


def open_scope(
    run: Run,
    settings: Settings,
    days: Days,
    into: Writer,
    facets: Collection[str] | None,
    compared_from: date,
) -> Scope:
    """Raises JobError where the stored profiles were folded under other settings."""
    meaning = FoldMeaning.of(settings)
    run.fold_hash = meaning.fold_hash
    states = into.warehouse.read(profile_states.TABLE)
    profiles = sound_profiles(into, states)
    newest = newest_of_fold(into.warehouse, profiles, meaning.facet_hashes)
    # Later days exist where an older one is repaired: its users are replayed to the end. The last may have no
    # states.
    published = [r.days.last for r in run.log.publications()] if into is run.writer else []
    horizon = max(days.last, newest or days.last, *published)
    # One day ahead is accepted: a day that is run again may have events of the next one, which is folded
    # already.
    until = min(horizon, days.last + timedelta(days=1))
    window_start = days.first - timedelta(days=settings.fold.window_days)
    return Scope(
        run=run,
        fold=settings.fold,
        meaning=meaning,
        days=days,
        into=into,
        facets=meaning.facet_hashes if facets is None else facets,
        states=states,
        profiles=profiles,
        newest=newest,
        horizon=horizon,
        compared=Days(max(compared_from, window_start), until),
    )


# ---- compare


def compare(scope: Scope) -> Comparison:
    """Marks the events in reach, counts their fates, and finds the dirty facets by their digests."""
    run, of_model = scope.run, F.col("model_key") == scope.meaning.model_key
    embeddings = run.warehouse.read(text_embeddings.TABLE).where(of_model)
    marked = mark_in_reach(scope, embeddings)
    counts = count_fates(marked, scope.days, scope.fold.window_days)
    run.add_counts(counts.by_fate)
    if counts.by_fate["retract_missed"]:
        run.add_counts({"too_late_to_retract": too_late_to_retract(scope, marked)})
    events = by_facet(marked, scope.facets)
    stored = scope.states.where(scope.compared.sql("as_of_date"))
    dirty = find_dirty(events.where(scope.compared.sql("event_date")), stored).localCheckpoint(eager=False)
    is_early = F.col("first_dirty") < F.lit(scope.days.first)
    dirty_events = F.coalesce(F.sum("events"), F.lit(0))
    changed, repaired, counted = dirty.agg(F.count("*"), F.count_if(is_early), dirty_events).collect()[0]
    run.add_counts({"profiles_changed": changed, "profiles_repaired": repaired})
    # Clean days after a dirty one are folded again too: then only the number of all events bounds them.
    is_exact = not repaired and scope.days.first == scope.horizon
    most = counted if is_exact else counts.folded * len(scope.meaning.facet_hashes)
    return Comparison(events, dirty, changed, most, is_exact, counts.texts, embeddings)


def mark_in_reach(scope: Scope, embeddings: DataFrame) -> DataFrame:
    """The events of the window, the days, and later days to which users are replayed.

    Marked (marks.mark_events).
    """
    window, warehouse = scope.fold.window_days, scope.run.warehouse
    reach = Days(scope.days.first, scope.horizon).widened(before=window)
    arrived = reach.widened(before=1, after=window).sql("log_date")
    stored = warehouse.read(behavior_events.TABLE).where(arrived)
    events = with_attributes(stored, warehouse.read(items.TABLE), scope.fold)
    rejected = warehouse.read(rejected_texts.TABLE).where(F.col("model_key") == scope.meaning.model_key)
    return mark_events(events, embeddings, rejected, scope.fold, F.expr(reach.sql("event_date")))


def too_late_to_retract(scope: Scope, marked: DataFrame) -> int:
    """How many of the days' retractions name a stored event that is older than the window."""
    missed = missed_retractions(marked, scope.days, scope.fold.window_days)
    back = scope.days.widened(before=LOOK_BACK_DAYS).sql("log_date")
    return count_too_late(missed, scope.run.warehouse.read(behavior_events.TABLE).where(back))


# ---- fold


def fold(scope: Scope, found: Comparison) -> Folded:
    """Folds the dirty facets from their first dirty day on, each from the state before it."""
    how = "broadcast" if found.changed <= FEW_FACETS else "shuffle_hash"
    dirty = found.dirty.drop("events").hint(how)
    to_fold = found.events.join(dirty, KEY).where("event_date >= first_dirty")
    window_start = scope.days.first - timedelta(days=scope.fold.window_days)
    back = point_back(dirty, scope.states.where(F.col("as_of_date") >= window_start))
    back = back.localCheckpoint(eager=False)
    behind, replaced, left = days_before(back, scope.profiles.join(dirty, KEY))
    # With the days in the filter, a few priors are found without reading the history or inactive users.
    profiles = scope.profiles.where(is_in("as_of_date", left))
    states = scope.states.where(is_in("as_of_date", behind))
    priors = find_priors(dirty, profiles, states, back.hint(how)).localCheckpoint(eager=False)
    if behind:
        require_priors(back, priors)
    share = events_per_task(found.embeddings, found.texts)
    tasks = task_count(to_fold, found.most_events, found.is_exact, share)
    uses = min(found.most_events, found.texts * tasks)
    output = fold_frame(to_fold, priors, found.embeddings, uses, tasks, scope.meaning.constants)
    counts, fresh, last, facets = moves_of(output)
    scope.run.add_counts(counts)
    return Folded(output, dirty, priors, facets, replaced, left, fresh, last)


def days_before(back: DataFrame, known: DataFrame) -> tuple[set[date], set[date], set[date]]:
    """Days that later states point back to, days of these states, days of the dirty facets' profiles.

    In one query.
    """
    replaced = back.select(F.lit(1), F.explode("replaced").alias("as_of_date"))
    rows = back.select(F.lit(0), "as_of_date").union(replaced).union(known.select(F.lit(2), "as_of_date"))
    found = rows.where("as_of_date IS NOT NULL").distinct().collect()
    behind, days, left = ({day for kind, day in found if kind == wanted} for wanted in range(3))
    return behind, days, left


def require_priors(back: DataFrame, priors: DataFrame) -> None:
    """Raises JobError where a state that later ones point back to is missing.

    The fold would begin with nothing.

    A dirty day that was thinned out itself ends here too: the states after it point to it, or to one in
    between.
    """
    pointing = back.where("as_of_date IS NOT NULL")
    missing = pointing.join(priors, KEY, "left_anti").agg(F.count("*"), F.min("as_of_date")).collect()[0]
    if missing[0]:
        raise JobError(
            f"{missing[0]} profiles would have to be folded again from before {missing[1]}, a day whose "
            "states maintain_tables has thinned out; fold a later day, or backfill into a new warehouse"
        )


def moves_of(output: DataFrame) -> tuple[dict[str, int], set[date], set[date], int]:
    """Counts of what the fold did.

    The days of the states, those of each facet's last state, and how many facets.

    Run records count in whole numbers, so drift is counted in millionths, summed over states with a
    predecessor.
    """
    measures = {
        "states": F.count("*"),
        "events_folded": F.sum(F.col("day_count")),
        "relevance_acted": F.sum("relevance_acted"),
        "cancelled": F.sum("cancelled"),
        "states_moved": F.count_if(F.col("drift") > 0),
        "drift_millionths": F.sum(F.round(F.col("drift") * 1e6).cast("long")),
    }
    counts = [F.coalesce(column.cast("long"), F.lit(0)).alias(name) for name, column in measures.items()]
    last_day = F.when(F.col("is_last"), F.col("as_of_date"))
    found = output.agg(*counts, F.collect_set("as_of_date"), F.collect_set(last_day), F.count(last_day))
    *moved, days, last_days, facets = found.collect()[0]
    return dict(zip(measures, moved, strict=True)), set(days), set(last_days), facets


# ---- write


def commit(scope: Scope, found: Comparison, folded: Folded) -> None:
    """Writes the states and then the profiles.

    Killed in between, the next fold completes the second from the first.
    """
    hashes = scope.meaning.facet_hashes
    note = note_of_fold(hashes, folded.fresh, folded.left, scope.newest)
    states = to_states(folded.output, scope.meaning.model_key, hashes)
    touched = folded.replaced | folded.fresh
    write_states(scope.into, states.drop("is_last"), scope.states, folded.dirty, touched, note)
    latest, last = states.where("is_last").drop("is_last"), folded.last
    if folded.facets < found.changed:
        alone = left_alone(folded.priors, latest)
        days = alone.select("as_of_date").distinct().collect()
        latest, last = latest.unionByName(alone), last | {row[0] for row in days}
    write_profiles(scope.into, latest, scope.profiles, folded.dirty, folded.left | last, note)
