"""The note that ties profile_states and user_profiles together."""

import json
from datetime import date

import pytest

from jobs.fold.note import FoldNote
from jobs.fold.tables import note_of_fold

HASHES = {"main": "a", "negative": "b"}
MONDAY, TUESDAY, FRIDAY = date(2025, 3, 3), date(2025, 3, 4), date(2025, 3, 7)


@pytest.mark.parametrize(
    "note",
    [
        FoldNote(),
        FoldNote(facet_hashes=HASHES),
        FoldNote(facet_hashes={}),
        FoldNote(HASHES, newest=MONDAY, states_version=0),
    ],
)
def test_a_note_reads_back_as_it_was_written(note):
    assert FoldNote.from_json(json.loads(json.dumps(note.to_json()))) == note


def test_the_stored_words_of_a_note():
    """Stored warehouses carry these keys."""
    assert FoldNote(HASHES, newest=MONDAY).beside_states(7).to_json() == {
        "facet_hashes": HASHES,
        "newest": "2025-03-03",
        "profile_states": 7,
    }


@pytest.mark.parametrize(
    ("fresh", "left", "newest", "noted"),
    [
        # The first fold.
        ({MONDAY, TUESDAY}, set(), None, TUESDAY),
        # A day is added to the newest.
        ({FRIDAY}, {TUESDAY}, TUESDAY, FRIDAY),
        # An older day is repaired: the newest day's other profiles stay.
        ({TUESDAY}, {MONDAY}, FRIDAY, FRIDAY),
        # All profiles of the newest day may have left it for an older one.
        ({TUESDAY}, {FRIDAY}, FRIDAY, None),
        # Some came back to it.
        ({TUESDAY, FRIDAY}, {FRIDAY}, FRIDAY, FRIDAY),
        # Every state is gone.
        (set(), {MONDAY}, MONDAY, None),
        (set(), set(), None, None),
    ],
)
def test_the_newest_day_is_noted_where_it_is_certain(fresh, left, newest, noted):
    assert note_of_fold(HASHES, fresh, left, newest) == FoldNote(HASHES, newest=noted)
