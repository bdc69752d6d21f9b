"""What changed in the lists of a night, and by what, as counts for its run record."""

from dataclasses import dataclass, replace

from pyspark.sql import DataFrame

from jobs.io.messages import JobError, say
from jobs.io.runs import Run
from jobs.recommend.catalogue import Shop, ranker_of
from jobs.recommend.exposure import Lists
from jobs.recommend.overlap import COMPARED, MADE, Earlier, overlap, some_of
from jobs.recommend.stored import Stored, of_version
from schemas.settings import RecommendSettings
from udfs.rank import Ranker


@dataclass(frozen=True)
class Made:
    """The lists of a night.

    Their rows, how many users have one, who kept an earlier list (None: nobody may), and by what they were
    made.
    """

    rows: DataFrame
    listed: int
    unmoved: DataFrame | None
    ranker: Ranker
    lists_of: Lists


def count_changes(run: Run, made: Made, earlier: Earlier, before: Ranker | None) -> None:
    """Adds the counts of overlap.py to the run.

    `night`: of lists in force before and now. `refit`: of lists by the ranker before, for the same users on
    the same day. `unmoved`: of lists that were kept and what would have replaced them.
    """
    rows, listed = made.rows, made.listed
    new = some_of(rows, listed, COMPARED)
    run.add_counts(overlap("night", new, earlier.items(new.where("rank = 1"))))
    if before is not None:
        some = some_of(rows, listed, MADE)
        run.add_counts(
            overlap("refit", some, made.lists_of(some.where("rank = 1").select("user_id"), before))
        )
    if made.unmoved is not None and (count := made.unmoved.count()):
        kept = some_of(made.unmoved, count, MADE)
        run.add_counts(overlap("unmoved", made.lists_of(kept, made.ranker), earlier.items(kept)))


def ranker_before(
    run: Run, shop: Shop, stored: Stored, settings: RecommendSettings, earlier: Earlier, now: Ranker
) -> Ranker | None:
    """The ranker of the lists in force, as it would rank on the day; None where it is the same or is gone."""
    version = earlier.version()
    if version is None or version == stored.version:
        return None
    try:
        found = of_version(run.warehouse, version)
    except JobError as error:
        # Only a figure needs it: the night goes on without.
        say(f"{run.spec.job} {earlier.day}: lists are not compared with those by {version}: {error}")
        return None
    if found is None:
        return None
    return replace(ranker_of(shop, found, settings, earlier.day), reranking=now.reranking)
