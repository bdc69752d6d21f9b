"""What events call their items, and which of these names holds for everybody.

An event's own title gives its own text. For events without one, and for the attributes that facets ask for,
an item's name is one by a catalogue, or else the one that most users give it: no single user can rename an
item for others, whatever the number, order and times of the user's events. The rule in full is the comment of
the table (schemas/items.py).
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.ingest.privacy import StoredForm, text_key
from jobs.ingest.records import is_visible
from jobs.io.days import Days
from jobs.io.versions import with_item
from schemas.items import BY_CATALOGUE, BY_EVENTS

SHOWN = ["title", "text", "text_key", "attributes"]
FACE = ["item_id", "log_date", "raw_key"]
VOTE = ["item_id", "user_id", "event_id", "event_ts", "log_date", "title_key"]
# Hexadecimal digits of a text_key, with which a title_key begins.
OF_TEXT = 64
# Rows of items that are broadcast: some ten megabytes.
FEW_ITEMS = 100_000


def title_key(title: Column, attributes: Column) -> Column:
    """Names a title with its attributes: its text_key, and a hash of the attributes if there are any."""
    entries = F.when(F.size(attributes) > 0, F.to_json(F.array_sort(F.map_entries(attributes))))
    return F.when(title.isNotNull(), F.concat_ws("-", text_key(title), F.sha2(entries, 256)))


def own_title_key() -> Column:
    """The text_key of an event's own title, by its title_key."""
    return F.substring("title_key", 1, OF_TEXT)


def few_sent(rows: DataFrame, count: int) -> DataFrame:
    """The rows, to be broadcast where they are few: Spark can't estimate the size of computed ones."""
    return F.broadcast(rows) if count <= FEW_ITEMS else rows


# ---- what events call their items


def with_raw_key(events: DataFrame) -> DataFrame:
    """Adds raw_key: the title_key of the title as it was read, NULL without a title or an item."""
    key = title_key(F.col("title"), F.col("attributes"))
    return events.withColumn("raw_key", F.when(_has_title(), key))


def _has_title() -> Column:
    return F.col("item_id").isNotNull() & is_visible(F.col("title"))


def event_faces(stored: DataFrame, form: StoredForm) -> DataFrame:
    """(FACE, SHOWN, title_key, votes): what events call each item on each log day.

    votes: whether such an event is not dated after its log day.
    """
    # Grouped with a Boolean to aggregate alone: max_by of a struct would sort. Empty attributes are none, as
    # in title_key.
    entries = F.when(F.size("attributes") > 0, F.sort_array(F.map_entries("attributes"))).alias("entries")
    votes = F.bool_or(F.col("event_date") <= F.col("log_date")).alias("votes")
    faces = stored.where(_has_title()).groupBy("item_id", "log_date", "title", entries).agg(votes)
    attributes = F.map_from_entries("entries")
    raw_key = title_key(F.col("title"), attributes)
    written = {"attributes": attributes, "raw_key": raw_key, "text": form.text(F.col("title"))}
    shown = faces.withColumns(written | {"title": form.title(F.col("title"))})
    keys = {"text_key": text_key(F.col("text")), "title_key": title_key(F.col("text"), F.col("attributes"))}
    return shown.withColumns(keys).select(*FACE, *SHOWN, "title_key", "votes")


def own_titles(faces: DataFrame, versions: DataFrame, form: StoredForm) -> DataFrame:
    """(FACE, title_key, is_own, own_ + SHOWN) of the faces that are not, to the letter, their item's name.

    is_own: whether the title differs from that of the version in force, and so is the event's own text. A
    catalogue's text without a title leaves nothing to differ from. versions: those up to the last day.
    """
    named = with_item(faces, versions, ["title", "text_key"])
    differs = ~F.col("text").eqNullSafe(form.text(F.col("item_title"))) & F.col("item_title").isNotNull()
    judged = named.withColumn("is_own", F.col("item_text_key").isNull() | differs)
    odd = judged.where("is_own OR raw_key <> title_key")
    return odd.select(*FACE, "title_key", "is_own", *[F.col(name).alias(f"own_{name}") for name in SHOWN])


def with_own_titles(of_item: DataFrame, own: DataFrame | None) -> DataFrame:
    """The events with title_key, and with their own title in place of their item's where it differs.

    of_item: events with raw_key and the item_ columns of SHOWN. own: as own_titles returns it; None where
    every event calls its item by its name, to the letter.
    """
    if own is None:
        return of_item.withColumn("title_key", F.col("raw_key"))
    joined = of_item.join(own, FACE, "left")
    shown = {
        f"item_{name}": F.when(F.col("is_own"), F.col(f"own_{name}")).otherwise(F.col(f"item_{name}"))
        for name in SHOWN
    }
    key = {"title_key": F.coalesce("title_key", "raw_key")}
    return joined.withColumns(shown | key).drop("is_own", *[f"own_{name}" for name in SHOWN])


# ---- which name holds


def in_force(versions: DataFrame, named: DataFrame) -> DataFrame:
    """(item_id, first_seen_date, valid_from, SHOWN, named_by, title_key): the newest versions of items.

    title_key: what votes are compared with; NULL for a catalogue's name. named: item_id of the wanted items.
    """
    of_items = versions.join(named, "item_id", "left_semi")
    latest = F.max_by(F.struct("valid_from", *SHOWN, "named_by"), "valid_from").alias("v")
    # Where days arrived out of order, versions of one item have different first days.
    last = of_items.groupBy("item_id").agg(latest, F.min("first_seen_date").alias("first_seen_date"))
    return last.select("item_id", "first_seen_date", "v.*").withColumn("title_key", version_key())


def version_key() -> Column:
    """The title_key of a version that events named; NULL for a catalogue's."""
    by_events = ~F.col("named_by").eqNullSafe(F.lit(BY_CATALOGUE))
    return F.when(by_events, title_key(F.col("text"), F.col("attributes")))


def names_given(
    faces: DataFrame, stored: DataFrame, past: DataFrame, held: DataFrame, days: Days, window_days: int
) -> DataFrame | None:
    """(item_id, log_date, title_key): the days on which events give an item a name, or another one.

    None where they call every item by its name, as on most nights. faces: as event_faces returns them for
    `stored`, the records of the days. past: stored events of the window_days before. held: the names in force
    before, as in_force returns them. Past events are read only for items that are called by several names.
    """
    items = undecided_items(faces, held).localCheckpoint(eager=False)
    count, contested = items.agg(F.count("*"), F.count_if("is_contested")).collect()[0]
    if not count:
        return None
    # A new item that everybody calls the same has that name from its first day.
    alone = few_sent(items.where("NOT is_contested"), count - contested)
    named = faces.where("votes").join(alone, "item_id", "left_semi")
    first_day = F.min("log_date").alias("log_date")
    new = named.groupBy("item_id", "title_key").agg(first_day).select("item_id", "log_date", "title_key")
    if not contested:
        return new
    few = few_sent(items.where("is_contested").select("item_id"), contested)
    called = with_raw_key(stored.join(few, "item_id", "left_semi"))
    called = called.join(faces.select(*FACE, "title_key").distinct(), FACE)
    votes = votes_of(called).union(votes_of(past.join(few, "item_id", "left_semi")))
    names = held.join(few, "item_id", "left_semi")
    return new.union(elected(votes, names, days, window_days))


def undecided_items(faces: DataFrame, held: DataFrame) -> DataFrame:
    """(item_id, is_contested) of the items whose name is not the one in force for certain.

    Those that a catalogue did not name and that are called by several names, or have none yet.
    """
    by_catalogue = F.coalesce(F.col("named_by") == BY_CATALOGUE, F.lit(False))
    ours = faces.where("votes").select("item_id", "title_key", F.lit(True), F.lit(False))
    theirs = held.select("item_id", "title_key", F.lit(False), by_catalogue)
    columns = "item_id", "title_key", "is_new", "is_settled"
    counted = (
        ours.union(theirs)
        .toDF(*columns)
        .groupBy("item_id")
        .agg(
            F.coalesce(F.min("title_key") < F.max("title_key"), F.lit(False)).alias("is_contested"),
            F.bool_and("is_new").alias("is_new"),
            F.bool_or("is_settled").alias("is_settled"),
        )
    )
    return counted.where("NOT is_settled AND (is_new OR is_contested)").select("item_id", "is_contested")


def votes_of(events: DataFrame) -> DataFrame:
    """(VOTE) of events that have a title_key and are not dated after their log day."""
    return events.where("title_key IS NOT NULL AND event_date <= log_date").select(*VOTE)


def elected(votes: DataFrame, names: DataFrame, days: Days, window_days: int) -> DataFrame:
    """(item_id, log_date, title_key): the days on which votes give an item a name, or another one.

    A pure function of sets of rows: neither the order of events nor how days are read together changes it.
    votes: VOTE of the days and of window_days before them; names: item_id and title_key before the days.
    """
    # One pass: what follows is partitioned by item, and then by day or title within it.
    before = names.select("item_id", F.col("title_key").alias("name"))
    tally = tallied(votes, days, window_days).join(before, "item_id", "left")
    best = Window.partitionBy("item_id", "day").orderBy(
        F.desc("is_fresh"), F.desc("votes"), "oldest", "title_key"
    )
    placed = tally.withColumn("place", F.when(F.col("is_fresh"), F.row_number().over(best)))
    # Two of a day are enough to find the best that is not in force, and the name in force was among them or
    # held before: an item that is called by many more would not fit into a row.
    is_rival = F.coalesce(F.col("place") <= 2, F.lit(False))
    ever = F.bool_or(is_rival).over(Window.partitionBy("item_id", "title_key"))
    kept = placed.withColumns({"is_rival": is_rival, "ever": ever}).where("ever OR title_key = name")
    called = F.struct(F.when(F.col("is_rival"), F.col("place")).alias("place"), "title_key", "votes")
    of_day = kept.groupBy("item_id", "name", "day").agg(F.sort_array(F.collect_list(called)).alias("called"))
    by_day = F.sort_array(F.collect_list(F.struct("day", "called"))).alias("days")
    of_item = of_day.groupBy("item_id", "name").agg(by_day)
    nothing = F.array().cast("array<struct<log_date:date,title_key:string>>")
    given = F.aggregate("days", F.struct("name", nothing.alias("given")), _after)["given"]
    return of_item.select("item_id", F.inline(given))


def tallied(votes: DataFrame, days: Days, window_days: int) -> DataFrame:
    """(item_id, day, title_key, votes, oldest, is_fresh): how many users call an item so on each of the days.

    Each has one vote, the user's latest title by (event_ts, event_id) in the window. oldest: the time of the
    first vote. is_fresh: whether one of the votes arrived on the day itself.
    """
    until = F.least(F.date_add("log_date", window_days), F.lit(days.last))
    day = F.explode(F.sequence(F.greatest("log_date", F.lit(days.first)), until))
    order = F.struct("event_ts", "event_id")
    vote = F.max_by(F.struct("title_key", "event_ts", "log_date"), order).alias("vote")
    latest = votes.withColumn("day", day).groupBy("item_id", "day", "user_id").agg(vote)
    return latest.groupBy("item_id", "day", F.col("vote.title_key").alias("title_key")).agg(
        F.count("*").alias("votes"),
        F.min("vote.event_ts").alias("oldest"),
        F.bool_or(F.col("vote.log_date") == F.col("day")).alias("is_fresh"),
    )


def _after(so_far: Column, day: Column) -> Column:
    """The name and the names given after one more day. day: (day, called by their places, NULLs first)."""
    name = so_far["name"]
    rivals = F.filter(
        day["called"], lambda one: one["place"].isNotNull() & ~one["title_key"].eqNullSafe(name)
    )
    rival, own = F.get(rivals, 0), F.get(F.filter(day["called"], lambda one: one["title_key"] == name), 0)
    # A name in force counts as one vote, however long ago it was given.
    needed = F.coalesce(own["votes"], F.lit(1))
    wins = rival.isNotNull() & (name.isNull() | (rival["votes"] > needed))
    given = F.struct(day["day"].alias("log_date"), rival["title_key"].alias("title_key"))
    all_given = F.concat(so_far["given"], F.array(given)).alias("given")
    return F.when(wins, F.struct(rival["title_key"].alias("name"), all_given)).otherwise(so_far)


def shown_names(faces: DataFrame, named: DataFrame) -> DataFrame:
    """(item_id, log_date, SHOWN) of names as events of the day write them; of several spellings the least.

    named: (item_id, log_date, title_key).
    """
    entries = F.sort_array(F.map_entries("attributes")).alias("entries")
    spelt = F.min(F.struct("title", "text", "text_key", entries)).alias("s")
    of_day = faces.where("votes").join(named, ["item_id", "log_date", "title_key"], "left_semi")
    attributes = F.map_from_entries("s.entries").alias("attributes")
    chosen = of_day.groupBy("item_id", "log_date").agg(spelt)
    return chosen.select("item_id", "log_date", "s.title", "s.text", "s.text_key", attributes)


# ---- whom a new name moves


def is_renamed() -> Column:
    """Whether titles of events gave an item another name with this row of items."""
    return (F.col("named_by") == BY_EVENTS) & (F.col("first_seen_date") < F.col("valid_from"))


def moved_users(stored: DataFrame, renamed: DataFrame, are_made: bool) -> DataFrame:
    """(log_date, moved): users with events that take an item's new name without giving it one themselves.

    renamed: rows of items. are_made: whether a mapping makes texts, also of events with one.
    """
    takes = ~F.coalesce(_has_title(), F.lit(False)) & (F.col("event_type") != "retract")
    if not are_made:
        takes = takes & F.col("text_key").isNull()
    begins = renamed.withColumnRenamed("valid_from", "log_date")
    taking = stored.where(takes).join(begins, ["item_id", "log_date"], "left_semi")
    return taking.groupBy("log_date").agg(F.count_distinct("user_id").alias("moved"))
