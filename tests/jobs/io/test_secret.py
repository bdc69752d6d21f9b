"""A secret that others could read is told, and never shown."""

import os
import re

import pytest

from jobs.io.messages import JobError
from jobs.io.secret import PLACES, SECRET_NAMES, read_secret, warn_if_argument, warn_if_open
from tests.conftest import ROOT


@pytest.mark.parametrize(("mode", "is_told"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_key_file_that_everybody_can_read_or_change_is_told(tmp_path, capsys, mode, is_told):
    file = tmp_path / "key"
    file.write_text("a secret of sixteen bytes", encoding="utf-8")
    file.chmod(mode)
    assert read_secret(str(file), "NOT_SET") == b"a secret of sixteen bytes"
    told = f"the key file {file} can be read by everybody on this machine: chmod 600 {file}\n"
    assert capsys.readouterr().out == (told if is_told else "")


def test_a_missing_key_file_is_left_to_who_reads_it(tmp_path, capsys):
    warn_if_open(str(tmp_path / "key"))
    assert capsys.readouterr().out == ""
    with pytest.raises(JobError, match="can't be read: FileNotFoundError"):
        read_secret(str(tmp_path / "key"), "NOT_SET")


def test_a_key_in_a_device_a_pipe_or_nobody_s_home_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, told in (
        ("/dev/zero", "it is no file"),
        (str(tmp_path / "pipe"), "it is no file"),
        ("~nobody-of-this-name/key", "RuntimeError"),
    ):
        with pytest.raises(JobError, match=f"can't be read: {told}"):
            read_secret(name, "NOT_SET")


SHOWN = [
    "spark.executorEnv.NIGHTFOLD_ENGINE_KEY",
    "spark.executorEnv.NIGHTFOLD_KEY",
    "spark.yarn.appMasterEnv.OTHER_KEY",
    "spark.hadoop.fs.s3a.access.key",
    "spark.hadoop.fs.s3a.secret.key",
    "spark.hadoop.fs.s3a.session.token",
    "spark.ssl.keyPassword",
    "spark.authenticate.secret",
]
HARMLESS = [
    "spark.sql.mapKeyDedupPolicy",
    "spark.sql.requireAllClusterKeysForCoPartition",
    "spark.authenticate.secret.driver.file",
    "spark.kubernetes.executor.secrets.keys",
    "spark.kubernetes.executor.secretKeyRef.ENGINE",
    "spark.hadoop.fs.s3a.aws.credentials.provider",
    "spark.driver.memory",
]


@pytest.mark.parametrize("name", SHOWN)
def test_a_secret_among_the_arguments_is_told_without_its_value(name, capsys):
    warn_if_argument(f"org.apache.spark.deploy.SparkSubmit --conf spark.a=b --conf {name}=hidden-7 job.py")
    told = capsys.readouterr().out
    assert told.startswith(f"{name} was given as an argument") and "hidden-7" not in told


@pytest.mark.parametrize("name", HARMLESS)
def test_a_property_without_a_secret_is_not(name, capsys):
    warn_if_argument(f"org.apache.spark.deploy.SparkSubmit --conf {name}=x job.py")
    assert capsys.readouterr().out == ""


def test_the_dags_know_the_same_names():
    """They import nothing of the jobs."""
    code = (ROOT / "dags" / "spark_jobs.py").read_text(encoding="utf-8")
    assert re.findall(r're\.compile\(r"(.*)"\)', code) == [SECRET_NAMES, PLACES]
