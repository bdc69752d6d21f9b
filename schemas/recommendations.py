"""The items for each user, with the parts of their scores and the events behind them."""

from schemas.table import DATE, FLOAT, INT, STRING, STRINGS, Check, Column, Rule, Table, unique

TABLE = Table(
    name="recommendations",
    comment="The first items for each user whose profile moved, by the day of the list. The list in force of "
    "a user is that of the latest day.",
    key=("as_of_date", "user_id", "facet", "rank"),
    written_by="recommend_items",
    partition_by=("as_of_date",),
    reach="as_of_date",
    columns=(
        Column("as_of_date", DATE, "log day at whose end the list was made"),
        Column("user_id", STRING, "user of the list", private=True),
        Column("facet", STRING, "main, or the context facet that the list is for"),
        Column("rank", INT, "place in the list, from 1"),
        Column("item_id", STRING, "the log's item id", private=True),
        Column("score", FLOAT, "sum of the parts, as float32, in the order of the columns"),
        Column("content", FLOAT, "share of the score by the texts that the profile stands for"),
        Column("collaborative", FLOAT, "share by what others chose who chose the same"),
        Column("popularity", FLOAT, "share by how many users chose the item lately"),
        Column("own", FLOAT, "share by the user's own earlier choices of the item"),
        Column("freshness", FLOAT, "share by how new the item is"),
        Column("because", STRINGS, "the user's events that gave most of the score, at most 3", private=True),
        Column("version", STRING, "model in ranking_models that made the list"),
    ),
    checks=(
        Check("rank_positive", "rank > 0"),
        Check("parts_sum_to_score", "score = content + collaborative + popularity + own + freshness"),
    ),
    rules=(
        unique("as_of_date", "user_id", "facet", "rank"),
        Rule("items_unique", "count(*) - count(DISTINCT as_of_date, user_id, facet, item_id)"),
    ),
)
