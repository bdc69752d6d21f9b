"""The local Airflow keeps its password, database and logs to the user who started it."""

import subprocess

from tests.conftest import ROOT


def test_files_of_the_local_airflow_are_private(tmp_path):
    script = (
        'source "$0" && umask && touch "$AIRFLOW_HOME/simple_auth_manager_passwords.json.generated" && '
        'stat -c %a "$AIRFLOW_HOME"/* && env'
    )
    env = {"AIRFLOW_HOME": str(tmp_path), "NIGHTFOLD_SPARK_CONF": "{}", "PATH": "/usr/bin:/bin"}
    shell = ["bash", "-c", script, str(ROOT / "docker" / "airflow_env.sh")]
    said = subprocess.run(shell, env=env, capture_output=True, text=True, umask=0o022, check=True).stdout
    assert said.splitlines()[:2] == ["0077", "600"]
    assert "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS=0o600" in said
    assert "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS=0o700" in said


def test_every_script_that_starts_airflow_is_private_from_its_first_file_on():
    for name in ("airflow_local.sh", "night_by_dag.sh"):
        lines = (ROOT / "docker" / name).read_text(encoding="utf-8").splitlines()
        private = next(n for n, line in enumerate(lines) if "umask 077" in line or "airflow_env.sh" in line)
        assert private < next(
            n for n, line in enumerate(lines) if line.startswith(("mkdir", "AIRFLOW_HOME="))
        )
