"""Every table of the warehouse, in the order of the data flow."""

from typing import Final

from schemas import (
    behavior_events,
    catalogue_stats,
    check_results,
    erased_users,
    items,
    pipeline_runs,
    profile_states,
    quarantined_events,
    ranking_models,
    recommendations,
    rejected_texts,
    text_embeddings,
    user_profiles,
)
from schemas.table import Table

ALL_TABLES: Final[tuple[Table, ...]] = (
    behavior_events.TABLE,
    quarantined_events.TABLE,
    items.TABLE,
    text_embeddings.TABLE,
    rejected_texts.TABLE,
    catalogue_stats.TABLE,
    profile_states.TABLE,
    user_profiles.TABLE,
    ranking_models.TABLE,
    recommendations.TABLE,
    check_results.TABLE,
    pipeline_runs.TABLE,
    erased_users.TABLE,
)


def tables_markdown() -> str:
    """The text of docs/tables.md."""
    about = (
        "Delta tables under the warehouse, each in a folder of its name. "
        "Dates and times are UTC; vectors are lists of floats."
    )
    head = f"# Tables\n\n{about}\n"
    return "\n".join([head, *(table.markdown() for table in ALL_TABLES)])
