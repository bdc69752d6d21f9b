"""One engine for each GPU: the GPUs that Spark assigns to the embed stage, with fake GPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

APPLICATION = """
import json, sys
import pyarrow as pa
from pyspark.sql import functions as F
from jobs.embed.stage import embed_tile, gpu_profile, task_gpus
from jobs.io.model import model_key_of
from jobs.io.session import open_session
from schemas.settings import EngineSettings, SparkSettings
from udfs.embed import Expected

def given(batches):
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"gpus": [",".join(task_gpus())] * batch.num_rows})

with open_session("profile", SparkSettings()) as spark:
    settings = EngineSettings(kind="hash", gpus=1, engines_per_gpu=2, partitions=4)
    text = F.concat(F.lit("tea "), "id").alias("text")
    rows = spark.range(40).select(F.col("id").cast("string").alias("text_key"), text)
    vectors = embed_tile(rows, settings, Expected(model_key_of(settings))).where("vector IS NOT NULL").count()
    found = {"vectors": vectors}
    for stage, profile in (("embed", gpu_profile(spark, settings)), ("other", None)):
        gpus = rows.repartition(4).mapInArrow(given, "gpus string", profile=profile).distinct().collect()
        found[stage] = sorted(row.gpus for row in gpus)
    with open(sys.argv[1], "w") as file:
        json.dump(found, file)
"""


@pytest.mark.slow
def test_tasks_of_the_embed_stage_get_gpus_and_those_of_other_stages_none(tmp_path: Path):
    (tmp_path / "app.py").write_text(APPLICATION)
    discovery = tmp_path / "gpus.sh"
    discovery.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["7"]}'\n""")
    discovery.chmod(0o755)
    spark_submit = Path(sys.executable).with_name("spark-submit")
    conf = {
        "spark.worker.resource.gpu.amount": "1",
        "spark.worker.resource.gpu.discoveryScript": str(discovery),
        "spark.executor.resource.gpu.amount": "1",
        "spark.executor.memory": "512m",
        "spark.executorEnv.PYTHONPATH": str(ROOT),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    options = [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    ended = subprocess.run(
        [
            spark_submit, "--master", "local-cluster[1,4,1024]", *options, tmp_path / "app.py",
            tmp_path / "found.json",
        ],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == {"vectors": 40, "embed": ["7"], "other": [""]}
