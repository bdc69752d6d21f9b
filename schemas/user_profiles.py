"""The living profile: each user's latest state in each facet."""

from schemas.profile_states import STATE_CHECKS, STATE_COLUMNS
from schemas.table import Rule, Table, unique

TABLE = Table(
    name="user_profiles",
    comment="Latest state of each user and facet: the table for recommenders and analysts.",
    key=("user_id", "facet"),
    written_by="fold_profiles",
    reach="as_of_date",
    sizes_night=True,
    # By day of last activity: a night neither reads nor writes the files of inactive users.
    partition_by=("as_of_date",),
    columns=STATE_COLUMNS,
    checks=STATE_CHECKS,
    rules=(
        unique("user_id", "facet"),
        Rule(
            "latest_states",
            "(SELECT count(*) FROM (SELECT user_id, facet, max(as_of_date) AS day, "
            "max_by(events_digest, as_of_date) AS digest FROM profile_states GROUP BY user_id, facet) s "
            "FULL JOIN user_profiles p ON s.user_id = p.user_id AND s.facet = p.facet "
            "WHERE NOT (s.day <=> p.as_of_date AND s.digest <=> p.events_digest))",
        ),
    ),
)
