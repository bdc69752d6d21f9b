"""What Spark decides about a record agrees with what Python stores of it."""

import random
import re

from pyspark.sql import functions as F

from jobs.ingest.records import NOT_IN_IDS, NOT_IN_OTHERS, PLAIN, is_cleaned, is_visible
from udfs.text import BLANKS, ODD, STRIPPED, normalise


def test_spark_and_python_agree_about_what_is_seen(spark):
    odd = [c for c in map(chr, range(0x110000)) if re.fullmatch(f"[{ODD}{BLANKS}]", c)]
    near = [
        *"a1# ",
        *"\u0301\u0627\u0915\u845b\u212a\u2764\ufffd\U0001f3f4\U0001f469\U0001f3fb\u200d\ufe0f\U000e0067",
    ]
    draw = random.Random(1)
    texts = [*odd, *near, *(a + c for c in odd for a in "a\u0627")]
    texts += ["".join(draw.choices(near * 20 + odd, k=draw.randint(1, 7))) for _ in range(5_000)]
    text = F.col("text")
    patterns = [text.rlike(pattern) for pattern in (NOT_IN_IDS, NOT_IN_OTHERS, PLAIN)]
    asked = [is_visible(text), is_cleaned(text), *patterns]
    rows = spark.createDataFrame([(t,) for t in texts], "text string").select("text", *asked).collect()
    for raw, visible, cleaned, in_id, in_other, plain in rows:
        assert visible == bool(normalise(raw)), ascii(raw)
        assert cleaned == bool(re.search(STRIPPED, raw)), ascii(raw)
        in_python = PLAIN.replace(r"\z", r"\Z")
        found = [bool(re.search(pattern, raw)) for pattern in (NOT_IN_IDS, NOT_IN_OTHERS, in_python)]
        assert [in_id, in_other, plain] == found, ascii(raw)
        assert not (plain and (in_id or in_other or cleaned)), ascii(raw)
