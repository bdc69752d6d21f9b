"""Every number in settings and mappings has a finite range, and what lies outside is refused by its key.

The fields are found in the models themselves, so that a new one is held to it too.
"""

import json
import math
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import annotated_types as bounds
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from schemas.mapping import LogMapping, MappingError, parse_mapping
from schemas.settings import Settings, SettingsError, parse_settings

Path = tuple[str, ...]
SOURCE = {
    "source": {"format": "json", "columns": {"u": "string"}},
    "fields": {"user_id": "u", "event_ts": "u", "event_type": "u", "item_id": "u"},
}


def numbers(model: type[BaseModel], path: Path = ()) -> Iterator[tuple[Path, type, list[Any]]]:
    """Path, type and bounds of each number of a model and the models in it; `*` stands for any key."""
    for name, field in model.model_fields.items():
        yield from numbers_in(field.annotation, field.metadata, (*path, name))


def numbers_in(annotation: Any, metadata: list[Any], path: Path) -> Iterator[tuple[Path, type, list[Any]]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        more = [one for extra in arguments[1:] for one in getattr(extra, "metadata", [extra])]
        yield from numbers_in(arguments[0], metadata + more, path)
    elif origin in (Union, UnionType):
        for one in arguments:
            yield from numbers_in(one, metadata, path)
    elif origin is dict:
        yield from numbers_in(arguments[1], [], (*path, "*"))
    elif origin is tuple:
        yield from numbers_in(arguments[0], [], (*path, "0"))
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from numbers(annotation, path)
    elif annotation in (int, float):
        yield path, annotation, metadata


def range_of(metadata: list[Any]) -> tuple[float, float]:
    """The lowest and the highest value, allowed or not; infinite where there is no bound."""
    low = [
        m.ge if isinstance(m, bounds.Ge) else m.gt for m in metadata if isinstance(m, bounds.Ge | bounds.Gt)
    ]
    high = [
        m.le if isinstance(m, bounds.Le) else m.lt for m in metadata if isinstance(m, bounds.Le | bounds.Lt)
    ]
    return max(low, default=-math.inf), min(high, default=math.inf)


OF_SETTINGS, OF_MAPPINGS = [*numbers(Settings)], [*numbers(LogMapping)]
CASES = [pytest.param(*case, id=".".join(case[0])) for case in OF_SETTINGS + OF_MAPPINGS]


def refusal(path: Path, written: str) -> str | None:
    """What the parser says of a file with this value; None where it takes it."""
    try:
        if path[0] in Settings.model_fields:
            nested = written
            for name in reversed(path):
                if name == "0":  # an entry of a list: a facet, which needs a name
                    nested = f"[{{name: recent, {nested[1:]}]"
                else:
                    nested = f"{{{'view' if name == '*' else name}: {nested}}}"
            parse_settings(nested, "f.yaml")
        else:
            rest = json.dumps(SOURCE)[1:-1]
            parse_mapping(f"{{{path[-1]}: {written}, {rest}}}", "f.yaml")
    except (SettingsError, MappingError) as error:
        return str(error)
    return None


def test_the_numbers_are_found():
    names = {".".join(path) for path, *_ in OF_SETTINGS + OF_MAPPINGS}
    assert names >= {
        "fold.alpha",
        "fold.type_weights.*",
        "engine.dimensions",
        "store.user_buckets",
        "max_bad_share",
        "sources.*.rating_min",
    }


@pytest.mark.parametrize(("path", "_type", "metadata"), CASES)
def test_every_number_has_a_finite_range(path, _type, metadata):
    low, high = range_of(metadata)
    assert -math.inf < low < high < math.inf
    assert refusal(path, repr(low - 1)) is not None and refusal(path, repr(high + 1)) is not None


@pytest.mark.parametrize(("path", "_type", "metadata"), CASES)
@pytest.mark.parametrize(
    "written",
    [
        "true",
        "false",
        ".nan",
        ".inf",
        "-.inf",
        "1e400",
        "-1e400",
        "'nan'",
        "'inf'",
        "9" * 30,
        f"-{'9' * 30}",
        "9" * 400,
    ],
)
def test_what_is_no_finite_number_of_a_range_is_refused_by_its_key(path, _type, metadata, written):
    said = refusal(path, written)
    assert said is not None and said.startswith("f.yaml") and path[-1].replace("*", "view") in said
    assert "\n" not in said and len(said) < 300


@given(
    st.sampled_from(OF_SETTINGS + OF_MAPPINGS),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
def test_only_values_of_the_range_are_taken(case, drawn, is_whole):
    path, type_, metadata = case
    low, high = range_of(metadata)
    value = int(drawn) if is_whole or type_ is int else drawn
    if not low <= value <= high:
        assert refusal(path, repr(value)) is not None
