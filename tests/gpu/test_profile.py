"""One engine per GPU: which GPUs Spark gives the tasks of the embed stage, with a fake nvidia-smi."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SPARK_SUBMIT = Path(sys.executable).with_name("spark-submit")
# Counts the vectors of an embed stage, and lists the GPUs that tasks of the stage and of other stages see.
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
    key, text = F.col("id").cast("string").alias("text_key"), F.concat(F.lit("tea "), "id").alias("text")
    rows = spark.range(40).select(key, text)
    vectors = embed_tile(rows, settings, Expected(model_key_of(settings))).where("vector IS NOT NULL").count()
    parts, profile = rows.repartition(4), gpu_profile(spark, settings)
    seen = parts.mapInArrow(given, "gpus string", profile=profile).distinct().collect()
    outside = parts.mapInArrow(given, "gpus string").distinct().collect()
    with open(sys.argv[1], "w") as file:
        gpus = {"stage": sorted(r.gpus for r in seen), "outside": sorted(r.gpus for r in outside)}
        json.dump({"vectors": vectors} | gpus, file)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose only GPU has the index 7."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "nvidia-smi").write_text("#!/bin/sh\necho 7\n", encoding="utf-8")
    (programs / "nvidia-smi").chmod(0o755)
    return os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }


def submitted(folder: Path, environment: dict[str, str], master: str, conf: dict[str, str]) -> dict:
    """What the application reports, submitted to the master with these properties."""
    (folder / "app.py").write_text(APPLICATION, encoding="utf-8")
    conf = conf | {
        "spark.executor.memory": "512m",
        "spark.executorEnv.PYTHONPATH": str(ROOT),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    options = [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
    command = [SPARK_SUBMIT, "--master", master, *options, folder / "app.py", folder / "report.json"]
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_tasks_of_the_embed_stage_get_gpus_and_others_do_not(tmp_path, environment):
    conf = {
        "spark.worker.resource.gpu.amount": "1",
        "spark.worker.resource.gpu.discoveryScript": str(ROOT / "docker/get_gpus.sh"),
        "spark.executor.resource.gpu.amount": "1",
    }
    report = submitted(tmp_path, environment, "local-cluster[1,4,1024]", conf)
    assert report == {"vectors": 40, "stage": ["7"], "outside": [""]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def daemon(log: Path, environment: dict[str, str], ready: str, *command: str) -> Iterator[None]:
    """A Spark daemon, once its log has the word that it is ready."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SPARK_SUBMIT.with_name("spark-class"), *command], env=environment, stdout=output, stderr=output
        )
    try:
        until = time.monotonic() + 60
        while ready not in log.read_text(encoding="utf-8"):
            assert process.poll() is None and time.monotonic() < until, log.read_text(encoding="utf-8")[
                -3000:
            ]
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_the_gpu_worker_of_the_compose_file_offers_its_gpu_to_the_embed_step(tmp_path, environment):
    compose = yaml.safe_load((ROOT / "docker/compose.yaml").read_text(encoding="utf-8"))
    worker = compose["services"]["spark-worker-gpu"]["environment"]["SPARK_WORKER_OPTS"]
    worker = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", worker).replace("/opt/nightfold", str(ROOT))
    # The properties of the embed step, as the golden command has them.
    golden = ROOT / "tests/golden/commands/profiles_nightly.embed_texts.gpu.txt"
    words = [word.split("=", 1) for word in golden.read_text(encoding="utf-8").splitlines() if "=" in word]
    conf = {key: value for key, value in words if "resource.gpu" in key}
    # A log level at which the daemons say that they are ready.
    (tmp_path / "log4j2.properties").write_text(
        "rootLogger.level = info\nrootLogger.appenderRef.out.ref = out\n"
        "appender.out.type = Console\nappender.out.name = out\nappender.out.layout.type = SimpleLayout\n",
        encoding="utf-8",
    )
    daemons = environment | {
        "SPARK_WORKER_OPTS": worker,
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": f"-Dlog4j2.configurationFile={tmp_path / 'log4j2.properties'}",
    }
    port, package = free_port(), "org.apache.spark.deploy"
    master = f"spark://127.0.0.1:{port}"
    ports = ("--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
    offer = ("--cores", "4", "--memory", "1g", "--webui-port", "0", "--work-dir", str(tmp_path / "work"))
    with (
        daemon(
            tmp_path / "master", daemons, "I have been elected leader", f"{package}.master.Master", *ports
        ),
        daemon(
            tmp_path / "worker", daemons, "registered with master", f"{package}.worker.Worker", *offer, master
        ),
    ):
        report = submitted(tmp_path, environment, master, conf)
    assert report == {"vectors": 40, "stage": ["7"], "outside": [""]}
