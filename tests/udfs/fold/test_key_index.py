"""The index of text keys: each key is found at its own row, and no other."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from udfs.fold.key_index import find_keys, index_keys
from udfs.fold.stream import _strings


@settings(deadline=None)
@given(
    keys=st.lists(st.text(max_size=3), unique=True, max_size=40),
    wanted=st.lists(st.none() | st.text(max_size=3), max_size=40),
    skipped=st.integers(0, 5),
)
def test_every_key_is_found_and_no_other(keys, wanted, skipped) -> None:
    wanted += keys
    indexed = _strings(pa.array([*keys, *keys[:3]], pa.string()))
    # A slice, since the column of a batch may be a part of another.
    asked = _strings(pa.array([None] * skipped + wanted, pa.string()).slice(skipped))
    found = find_keys(index_keys(*indexed), *indexed, *asked)
    assert found.tolist() == [keys.index(key or "") if (key or "") in keys else -1 for key in wanted]
