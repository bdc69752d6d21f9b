"""Items and their texts as of a day."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from jobs.rank.catalogue import NO_TEXT, Catalogue, shelf_on
from jobs.rank.tables import numbered
from udfs.rerank import NO_CATEGORY

# Item 0 is renamed on day 5; item 1 has no text; item 2 comes on day 3.
CATALOGUE = Catalogue(
    known=np.array([0, 0, 3], np.int32),
    version_item=np.array([0, 0, 1, 2], np.int32),
    version_from=np.array([0, 5, 0, 3], np.int32),
    version_text=np.array([0, 1, NO_TEXT, 2], np.int32),
    vectors=np.array([[1, 0], [0, 1], [1, 1]], np.float32),
)


@pytest.mark.parametrize(
    ("day", "known", "texts"),
    [
        (-1, [False, False, False], [NO_TEXT, NO_TEXT, NO_TEXT]),
        (0, [True, True, False], [0, NO_TEXT, NO_TEXT]),
        (4, [True, True, True], [0, NO_TEXT, 2]),
        (5, [True, True, True], [1, NO_TEXT, 2]),
    ],
)
def test_what_is_known_and_valid_on_a_day(day, known, texts):
    assert CATALOGUE.known_on(day).tolist() == known and CATALOGUE.texts_on(day).tolist() == texts


def test_categories_are_those_of_the_versions_of_a_day():
    named = replace(CATALOGUE, version_category=np.array([2, NO_CATEGORY, 0, 1], np.int32))
    assert named.categories_on(4).tolist() == [2, 0, 1]
    assert named.categories_on(5).tolist() == [NO_CATEGORY, 0, 1]
    assert CATALOGUE.categories_on(5).tolist() == [NO_CATEGORY] * 3


def test_categories_are_numbered_by_name():
    names = pa.chunked_array([["b", None], ["a", "b"]])
    assert numbered(names).tolist() == [1, NO_CATEGORY, 0, 1]
    assert numbered(pa.chunked_array([pa.array([None], pa.string())])).tolist() == [NO_CATEGORY]


def test_a_shelf_is_centred_on_the_items_of_its_day():
    shelf = shelf_on(CATALOGUE, 4)
    assert shelf.mean.tolist() == [1.0, 0.5]
    assert shelf.centred.tolist() == [[0, -1], [0, 0], [0, 1]]
    assert shelf.raw[0].tolist() == [1, 0] and not shelf.raw[1].any()


def test_a_day_before_everything_has_an_empty_shelf():
    shelf = shelf_on(CATALOGUE, -1)
    assert not shelf.centred.any() and not shelf.mean.any()
