"""The catalogue as it was on a day: which items were known, and the vectors of the texts they had then."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.rank.events import Bools, Days
from udfs.rerank import NO_CATEGORY
from udfs.score import centred_units, mean_vector

NO_TEXT = -1


@dataclass(frozen=True)
class Catalogue:
    """All items, ascending by id, and the versions of their texts.

    known: int32[items], the day from which each is known: its first version or the first log day with an
    event. version_item, version_from, version_text: int32[versions] by item and day: whose version, from
    which log day, and the row of its text in `vectors`, NO_TEXT where it has no vector. vectors:
    float32[texts, d]. version_category: int32[versions], numbers of categories, NO_CATEGORY where a version
    has none; None where nobody asked for them.
    """

    known: Days
    version_item: NDArray[np.int32]
    version_from: Days
    version_text: NDArray[np.int32]
    vectors: NDArray[np.float32]
    version_category: NDArray[np.int32] | None = None

    @property
    def size(self) -> int:
        """How many items there are."""
        return len(self.known)

    def known_on(self, day: int) -> Bools:
        """bool[items]: which items were known at the end of a day."""
        return self.known <= day

    def texts_on(self, day: int) -> NDArray[np.int32]:
        """int32[items]: the row in `vectors` of each item's text at the end of a day, or NO_TEXT."""
        texts = np.full(self.size, NO_TEXT, np.int32)
        then = self.version_from <= day
        # Versions are ordered by day, and of equal indices the last assignment stays.
        texts[self.version_item[then]] = self.version_text[then]
        return texts

    def categories_on(self, day: int) -> NDArray[np.int32]:
        """int32[items]: each item's category at the end of a day, or NO_CATEGORY."""
        categories = np.full(self.size, NO_CATEGORY, np.int32)
        if self.version_category is not None:
            then = self.version_from <= day
            categories[self.version_item[then]] = self.version_category[then]
        return categories


@dataclass(frozen=True)
class Shelf:
    """The vectors of a day: of each item float64[items, d], rows of zeros for items without one.

    centred: directions seen from the mean of the day's items; raw: directions as they are. mean: float32[d],
    the bits that catalogue_stats has for the day.
    """

    centred: NDArray[np.float64]
    raw: NDArray[np.float64]
    mean: NDArray[np.float32]


def vectors_on(
    catalogue: Catalogue, day: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Of the items whose text has a vector that day: int64[n], float32[n, d], and their mean, float32[d]."""
    texts = catalogue.texts_on(day)
    there = np.flatnonzero((texts != NO_TEXT) & catalogue.known_on(day))
    vectors = catalogue.vectors[texts[there]]
    return there, vectors, mean_vector(vectors)


def shelf_on(catalogue: Catalogue, day: int) -> Shelf:
    """The vectors of the texts that were valid at the end of a day."""
    there, vectors, mean = vectors_on(catalogue, day)
    centred, raw = np.zeros((2, catalogue.size, catalogue.vectors.shape[1]))
    centred[there] = centred_units(vectors, mean)
    raw[there] = centred_units(vectors, np.zeros_like(mean))
    return Shelf(centred, raw, mean)
