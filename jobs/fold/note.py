"""The note that fold commits carry.

Under which settings the rows were folded, and how far the two tables belong together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from jobs.io.warehouse import Warehouse
from schemas.table import Table


@dataclass(frozen=True)
class FoldNote:
    """What a commit to profile_states or user_profiles says of all rows of the table.

    facet_hashes: the meaning of each facet; None where unknown. newest: the newest day of the profiles; None
    where only the profiles themselves can tell. states_version: the version of profile_states that the
    profiles belong to.
    """

    facet_hashes: dict[str, str] | None = None
    newest: date | None = None
    states_version: int | None = None

    @classmethod
    def of(cls, warehouse: Warehouse, table: Table) -> "FoldNote":
        """The note of the table's last commit that changed rows."""
        return cls.from_json(warehouse.content_note(table))

    @classmethod
    def from_json(cls, note: Mapping[str, Any]) -> "FoldNote":
        """The note in a commit's userMetadata."""
        newest = note.get("newest")
        return cls(
            note.get("facet_hashes"),
            date.fromisoformat(newest) if newest else None,
            note.get("profile_states"),
        )

    def to_json(self) -> dict[str, object]:
        """Only what is known.

        >>> FoldNote(newest=date(2025, 3, 1), states_version=4).to_json()
        {'newest': '2025-03-01', 'profile_states': 4}
        """
        newest = None if self.newest is None else str(self.newest)
        found = {"facet_hashes": self.facet_hashes, "newest": newest, "profile_states": self.states_version}
        return {key: value for key, value in found.items() if value is not None}

    def beside_states(self, version: int | None) -> "FoldNote":
        """The note of profiles that belong to this version of profile_states."""
        return replace(self, states_version=version)
