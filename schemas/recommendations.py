"""What each user is offered, and why."""

from schemas.table import DATE, DOUBLE, INT, STRING, STRINGS, Check, Column, Table

TABLE = Table(
    name="recommendations",
    comment="Ranked items for each user and facet as of a day, with the parts of the score and the reasons.",
    key=("as_of_date", "user_id", "facet", "rank"),
    partition_by=("as_of_date",),
    columns=(
        Column("as_of_date", DATE, "the day whose states were used"),
        Column("user_id", STRING, "for whom", private=True),
        Column("facet", STRING, "for which facet of the profile"),
        Column("rank", INT, "1 is best"),
        Column("item_id", STRING, "what is offered", private=True),
        Column("score", DOUBLE, "the blended score"),
        Column("content", DOUBLE, "its share from profile and item text"),
        Column("collaborative", DOUBLE, "its share from users alike"),
        Column("popularity", DOUBLE, "its share from popularity"),
        Column("because", STRINGS, "event ids that speak most for it", private=True),
    ),
    checks=(Check("rank_positive", "rank > 0"),),
)
