"""What the lists of a day are made of besides users: the catalogue of the day, under a stored ranker."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.rank.blend import min_max
from jobs.rank.catalogue import Catalogue, vectors_on
from jobs.rank.moment import day_number
from jobs.rank.tables import Tables, read_catalogue
from jobs.recommend.models import LAST
from jobs.recommend.stored import Stored
from jobs.recommend.training import freshness_on
from schemas import items
from schemas.settings import RecommendSettings
from udfs.rank import Ranker
from udfs.rerank import Reranking, Rules
from udfs.score import centred


@dataclass(frozen=True)
class Shop:
    """The catalogue of a day.

    ids: string[m], of all its items, ascending; blocked: ids in no list; unmatched: entries of the block
    lists that no item has.
    """

    catalogue: Catalogue
    ids: pa.Array
    blocked: pa.Array
    unmatched: tuple[str, ...] = ()


def read_shop(
    tables: Tables, events: DataFrame, settings: RecommendSettings, model_key: str, day: date
) -> Shop:
    """The catalogue. events: those known by the day, that count. Raises JobError where there is no room."""
    category = settings.category_attribute if settings.calibration else None
    catalogue, ids = read_catalogue(tables, events, model_key, category)
    of_category = blocked_by_category(tables, settings, day)
    blocked = sorted({*settings.block_items, *of_category})
    is_there = pc.is_in(pa.array(settings.block_items, pa.string()), value_set=ids).to_pylist()
    unmatched = [item for item, there in zip(settings.block_items, is_there, strict=True) if not there]
    unmatched += sorted(set(settings.block_categories) - set(of_category.values()))
    return Shop(catalogue, ids, pa.array(blocked, pa.string()), tuple(unmatched))


def blocked_by_category(tables: Tables, settings: RecommendSettings, day: date) -> dict[str, str]:
    """The items whose category on the day is blocked, with the category."""
    if not settings.block_categories:
        return {}
    versions = tables.read(items.TABLE).where(F.col("valid_from") <= F.lit(day))
    latest = versions.groupBy("item_id").agg(F.max_by("attributes", "valid_from").alias("attributes"))
    category = F.try_element_at("attributes", F.lit(settings.category_attribute)).alias("category")
    rows = latest.select("item_id", category).where(F.col("category").isin(list(settings.block_categories)))
    return {row["item_id"]: row["category"] for row in rows.collect()}


def ranker_of(shop: Shop, stored: Stored, settings: RecommendSettings, day: date) -> Ranker:
    """The ranker of the day: items known by then, their texts and the model's weights."""
    number = day_number(day)
    known = np.flatnonzero(shop.catalogue.known_on(number))
    ids = shop.ids.take(pa.array(known))
    there, vectors, mean = vectors_on(shop.catalogue, number)
    at = np.searchsorted(known, there)
    units, lengths = np.zeros((len(ids), len(mean)), np.float32), np.zeros(len(ids))
    units[at], lengths[at] = centred(vectors, mean)
    popularity, near = stored.artefact.placed(ids)
    own = stored.parameters
    fresh = freshness_on(shop.catalogue.known[known], number, own["freshness_half_life"])
    return Ranker(
        ids=ids,
        units=units,
        lengths=lengths,
        mean=mean,
        popularity=scaled(popularity),
        freshness=scaled(fresh),
        blocked=pc.is_in(ids, value_set=shop.blocked).to_numpy(zero_copy_only=False),
        near=near,
        weights=stored.weights,
        aversion=own["content_aversion"],
        half_life=own["own_half_life"],
        last_only=stored.kind == LAST.name,
        today=number,
        top=settings.top,
        repeat=settings.repeat,
        reranking=reranking_of(settings, shop.catalogue.categories_on(number)[known]),
    )


def reranking_of(settings: RecommendSettings, category: NDArray[np.int32]) -> Reranking | None:
    """What the settings ask for besides scores, before any item is capped; None for nothing.

    category: int32[m], of the items that are ranked.
    """
    rules = Rules(settings.diversity, settings.calibration, settings.exposure_cap)
    if not rules.is_greedy and rules.cap == 1:
        return None
    return Reranking(rules, category, np.ones(len(category)))


def scaled(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64[n] brought to 0..1; zeros where all are equal."""
    found: NDArray[np.float64] = min_max(scores[None], np.ones((1, len(scores)), bool))[0]
    return found
