"""The living profile: the latest state of each user and facet."""

from schemas.profile_states import STATE_CHECKS, STATE_COLUMNS
from schemas.table import Table

TABLE = Table(
    name="user_profiles",
    comment="The latest state of each user and facet: what recommenders and analysts read.",
    key=("user_id", "facet"),
    columns=STATE_COLUMNS,
    checks=STATE_CHECKS,
)
