"""The settings of the fold: what determines the profiles, in common and facet by facet."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from schemas.days import parse_day
from schemas.section import Section

# Largest weight of an event type: weights are relative, and their quotients must stay numbers.
HEAVIEST: Final = 1e6
# The facets that every fold has.
ALWAYS: Final = ("main", "negative")
# What a facet may set for itself; where it does not, it has the fold's.
INHERITED: Final = ("gate", "relevance", "alpha", "k_min", "k_max")

Weight = Annotated[float, Field(ge=0, le=HEAVIEST)]


class FacetSettings(Section):
    """A subset of a user's events that gets its own profile, and constants of its own."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,39}$",
        description="name in the facet columns; main or negative: gives these constants of their own",
    )
    where: str | None = Field(
        None,
        description="deterministic Spark SQL predicate over the columns of behavior_events, local_ts, "
        "local_hour, local_weekday, item_attributes and polarity (NULL at present); NULL counts as false; "
        "null: every event that is not negative",
    )
    half_life_days: float | None = Field(
        None,
        ge=1,
        le=36_500,
        description="days in which the weight of older events halves, from event_date to event_date; "
        "null: no decay",
    )
    gate: Literal["effective", "literal", "mean", "fixed"] | None = Field(
        None, description="as fold.gate; null, here and in the next four: the fold's"
    )
    relevance: Literal["follow", "resist"] | None = Field(None, description="as fold.relevance")
    alpha: float | None = Field(None, ge=0, le=1, description="as fold.alpha")
    k_min: float | None = Field(None, ge=0, lt=1, description="as fold.k_min")
    k_max: float | None = Field(None, gt=0, lt=1, description="as fold.k_max")
    type_weights: dict[str, Weight] | None = Field(
        None,
        description="in place of all of fold.type_weights; 0: not in this facet; a type that has weight 0 in "
        "the fold is in no facet; null: the fold's",
    )

    @model_serializer(mode="wrap")
    def _without_nulls(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Hashes of settings include no key that a facet does not set: a new key changes none of them."""
        return {key: value for key, value in dump(self).items() if value is not None}


class FoldSettings(Section):
    """What determines the profiles; any change except to window_days and first_day requires a rebuild."""

    gate: Literal["effective", "literal", "mean", "fixed"] = Field(
        "effective", description="formula for the share of the old profile that an event retains"
    )
    relevance: Literal["follow", "resist"] = Field(
        "follow", description="follow: an off-topic event moves the profile more; resist: it moves it less"
    )
    alpha: float = Field(0.05, ge=0, le=1, description="weight of relevance against memory in the gain")
    k_min: float = Field(0.5, ge=0, lt=1, description="minimum gain")
    k_max: float = Field(0.98, gt=0, lt=1, description="maximum gain")
    max_day_share: float = Field(
        0.8, gt=0, lt=1, description="maximum share by which one day can move a profile"
    )
    daily_cap: int = Field(
        1000,
        ge=1,
        le=1_000_000_000,
        description="events per user and day that count; later ones get weight 0",
    )
    burst_repeats: int = Field(
        10,
        ge=1,
        le=1_000_000_000,
        description="equal events per user that count within burst_seconds; later ones get weight 0",
    )
    burst_seconds: int = Field(60, ge=1, le=86400, description="look-back of burst detection, seconds")
    minute_limit: int = Field(
        1000,
        ge=1,
        le=1_000_000_000,
        description="events a person can cause within a minute; a day with more gets weight 0",
    )
    type_weights: dict[str, Weight] = Field(
        default_factory=lambda: {
            "purchase": 1.0, "return": 1.0, "review": 1.0, "rating": 0.8,
            "cart": 0.6, "click": 0.3, "view": 0.2,
        },
        description="weight of each event type, relative to the largest; 0: stored, never folded",
    )  # fmt: skip
    default_type_weight: float = Field(
        0.2, ge=0, le=HEAVIEST, description="weight of types not listed, on the same scale"
    )
    opinion_floor: float = Field(
        0.25,
        ge=0,
        le=1,
        description="weight factor of a neutral rating (or polarity, if unrated); a clear one has factor 1",
    )
    negative_where: str = Field(
        "rating < 0.4 OR event_type = 'return' OR polarity < -0.5",
        description="events of the facet `negative`, which enter no other facet; a predicate as in facets",
    )
    facets: tuple[FacetSettings, ...] = Field(
        (),
        description="facets besides main and negative, e.g. [{name: at_home, where: place = 'home'}, "
        "{name: recent, half_life_days: 14}]; keys of each:",
    )
    window_days: int = Field(
        7, ge=0, le=60, description="repair window: how late an event may arrive and still be folded in, days"
    )
    first_day: date | None = Field(
        None, description="first log day of the warehouse; null: set by --bootstrap or a backfill"
    )

    @field_validator("first_day", mode="before")
    @classmethod
    def _no_number_of_seconds(cls, value: Any) -> Any:
        """Pydantic takes 86400 for a date."""
        return value if value is None or isinstance(value, date) else parse_day(str(value))

    @model_validator(mode="after")
    def _consistent(self) -> "FoldSettings":
        names = [facet.name for facet in self.facets]
        if len(set(names)) < len(names):
            raise ValueError("facet names must be distinct")
        if any(facet.where is not None for facet in self.facets if facet.name in ALWAYS):
            raise ValueError("the facets main and negative take no where; negative has negative_where")
        if self.k_min > self.k_max:
            raise ValueError("k_min must not be above k_max")
        if max([*self.type_weights.values(), self.default_type_weight]) <= 0:
            raise ValueError("at least one type weight must be above 0")
        for facet in self.facets:
            constants = self.constants_of(facet.name)
            if constants["k_min"] > constants["k_max"]:
                raise ValueError(f"facet {facet.name}: k_min must not be above k_max")
            if facet.type_weights is not None:
                self._require_weights(facet.name, facet.type_weights)
        return self

    def _require_weights(self, name: str, weights: Mapping[str, float]) -> None:
        """Raises ValueError where a facet's own weights would change which events count.

        Caps and bursts are counted once for all facets, so another facet's states must not depend on them.
        """
        never = [
            kind
            for kind, weight in weights.items()
            if weight > 0 and self.type_weights.get(kind, self.default_type_weight) <= 0
        ]
        if never:
            raise ValueError(
                f"facet {name}: the event type {never[0]} has weight 0 in the fold, so in no facet"
            )
        if max([*weights.values(), self.default_type_weight]) <= 0:
            raise ValueError(f"facet {name}: at least one type weight must be above 0")

    @property
    def named(self) -> tuple[FacetSettings, ...]:
        """The facets besides main and negative."""
        return tuple(facet for facet in self.facets if facet.name not in ALWAYS)

    @property
    def predicates(self) -> dict[str, str]:
        """Every predicate by the name under which a message shows it."""
        named = {f"facet {f.name}": "true" if f.where is None else f.where for f in self.named}
        return {"negative_where": self.negative_where, **named}

    @property
    def facet_names(self) -> tuple[str, ...]:
        """The names of all facets."""
        return (*ALWAYS, *(facet.name for facet in self.named))

    def own(self, name: str) -> FacetSettings:
        """What a facet sets for itself."""
        return next((facet for facet in self.facets if facet.name == name), FacetSettings(name=name))

    def constants_of(self, name: str) -> dict[str, Any]:
        """The constants of a facet's gate: its own, and the fold's where it has none."""
        own = self.own(name)
        values = {key: getattr(own, key) for key in INHERITED}
        constants = {key: getattr(self, key) if value is None else value for key, value in values.items()}
        return constants | {"half_life_days": own.half_life_days}

    def alone(self, name: str) -> "FoldSettings":
        """These settings as a facet has them: its own constants as those of the fold, and no other facet."""
        constants = self.constants_of(name)
        rest = self.own(name).model_copy(update=dict.fromkeys(INHERITED))
        is_plain = name in ALWAYS and rest.model_dump() == {"name": name}
        common = {key: constants[key] for key in INHERITED}
        return self.model_copy(update={**common, "facets": () if is_plain else (rest,)})
