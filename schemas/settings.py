"""Every setting of the pipeline: default, unit and purpose. docs/settings.yaml is generated from here."""

import hashlib
import json
import re
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from schemas.documents import DocumentError, parse_document, told
from schemas.fold_settings import FoldSettings
from schemas.section import Section

CODE_VERSION: Final = "0.1.0"
# Incremented whenever the same events and vectors would give different bits.
KERNEL_VERSION: Final = 1
# Hashed with the fold's settings although it is not one: hashes in stored states and run records include it.
HASHED_WITH_FOLD: Final = {"sentiment_key": None}
# Server addresses appear in messages and in the workers' environment, so they must not contain a password.
ADDRESS: Final = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%/-]*)?"
)
# Longest value in a message, characters.
SHOWN_VALUE: Final = 80


class SettingsError(ValueError):
    """The configuration file is invalid; the message is one sentence for its author."""


class EngineSettings(Section):
    """The embedding engine: model, batching, hardware and servers."""

    kind: Literal["vllm", "vllm_server", "hash"] = Field(
        "vllm",
        description="vllm: in the Spark worker; vllm_server: OpenAI-compatible servers; "
        "hash: a hashed bag of words",
    )
    model: str | None = Field(
        None,
        description="folder or hub name of a pooling model for vLLM; null: the packaged all-MiniLM-L6-v2",
    )
    trust_remote_code: bool = Field(False, description="run Python code shipped with the model")
    dtype: Literal["auto", "bfloat16", "float32", "float16"] = Field(
        "auto",
        description="auto: bfloat16 on GPUs and on CPUs faster with it, else float32 "
        "(vLLM's auto picks float16, slow on CPUs)",
    )
    pooling: Literal["MEAN", "CLS", "LAST"] = Field(
        "MEAN", description="how token vectors are combined into one; must match the model's training"
    )
    prefix: str = Field("", description="prepended to every text, for models trained with a prefix")
    max_tokens: int = Field(
        256,
        ge=8,
        le=1_000_000,
        description="tokens per text given to the model; longer texts are truncated and marked",
    )
    dimensions: int | None = Field(
        None,
        ge=2,
        le=65536,
        description="keep only this many leading dimensions of a Matryoshka model; null: all",
    )
    hash_dimensions: int = Field(64, ge=2, le=65536, description="vector dimensions of the hash engine")
    embed_items: bool = Field(
        True,
        description="embed the texts of all items as well, so that items without events have a vector; "
        "without it those of events alone",
    )
    tile_texts: int = Field(
        16384,
        ge=1,
        le=10_000_000,
        description="maximum texts per commit; after a kill at most two such tiles are embedded again",
    )
    call_tokens: int = Field(
        65536,
        ge=1,
        le=100_000_000,
        description="maximum tokens per engine call (or one text); bounds the memory of a task",
    )
    partitions: int = Field(
        1,
        ge=1,
        le=10_000,
        description="tasks embedding in parallel, each with its own engine: one per machine or GPU",
    )
    threads: int = Field(0, ge=0, le=4096, description="CPU threads per engine; 0: all cores of the machine")
    timeout_s: int = Field(
        900,
        ge=1,
        le=86400,
        description="time limit for an engine's start and for each call, seconds; beyond it the job fails",
    )
    gpus: int = Field(
        0,
        ge=0,
        le=64,
        description="GPUs per engine (tensor parallel), requested from Spark on a cluster; 0: none requested",
    )
    engines_per_gpu: int = Field(
        1, ge=1, le=64, description="engines sharing one GPU, for small models that leave it idle"
    )
    endpoints: tuple[str, ...] = Field(
        (), description="addresses of running servers of the same model, e.g. [http://gpu1:8000]"
    )
    served_model: str | None = Field(
        None, description="the model's name on the servers; null: the only model they serve"
    )
    key_variable: str = Field(
        "NIGHTFOLD_ENGINE_KEY",
        pattern=r"^[A-Z][A-Z0-9_]*$",
        description="environment variable with the servers' API key, if any",
    )
    key_file: str | None = Field(
        None,
        description="file with the servers' API key on driver and executors; null: the environment variable",
    )
    requests: int = Field(4, ge=1, le=1024, description="concurrent requests per task")

    @model_validator(mode="after")
    def _consistent(self) -> "EngineSettings":
        if self.kind == "vllm_server" and not self.endpoints:
            raise ValueError("the vllm_server engine needs endpoints, e.g. [http://gpu1:8000]")
        for number, endpoint in enumerate(self.endpoints, 1):
            if not ADDRESS.fullmatch(endpoint):
                # The message leaves the address out: it may contain a password.
                raise ValueError(
                    f"endpoint {number} is not an address like http://gpu1:8000, optionally with a path; "
                    "pass a key in the environment variable named by key_variable"
                )
            if endpoint.rstrip("/").endswith("/v1"):
                raise ValueError(f"endpoint {number} must not end with /v1, which the engine adds")
        if self.engines_per_gpu > 1 and self.gpus > 1:
            raise ValueError("set either gpus or engines_per_gpu above 1, not both")
        return self


class IngestSettings(Section):
    """Limits of the ingest: which records it quarantines, and which days and files it refuses."""

    max_bad_share: float = Field(
        0.5, ge=0, le=1, description="a log day with a larger share of quarantined records is refused"
    )
    unknown_types: Literal["keep", "quarantine"] = Field(
        "keep",
        description="event types not in fold.type_weights; kept ones get fold.default_type_weight",
    )
    max_record_kb: int = Field(
        1024, ge=1, le=65536, description="larger records are quarantined; KiB of all texts and ids together"
    )
    max_id_chars: int = Field(
        512, ge=1, le=10000, description="records with longer ids are quarantined; characters"
    )
    max_expansion: int = Field(
        200,
        ge=1,
        le=1_000_000,
        description="a compressed file that expands by more than this factor is refused",
    )


class PrivacySettings(Section):
    """Redaction before storage. Changes apply from the next ingest on; stored rows are not rewritten."""

    scrub_texts: bool = Field(
        False,
        description="redact e-mail addresses, phone and card numbers and IP addresses in texts and titles",
    )
    phone_region: str | None = Field(
        None,
        pattern=r"^[A-Z]{2}$",
        description="country whose phone numbers are recognised without +code, e.g. GB; null: +code required",
    )
    user_ids: Literal["plain", "keyed"] = Field(
        "plain", description="keyed: user ids are stored only as HMAC-SHA-256 under the key"
    )
    key_file: str | None = Field(
        None, description="file with the secret key; null: the environment variable NIGHTFOLD_KEY"
    )


class StoreSettings(Section):
    """Layout of the tables."""

    user_buckets: int = Field(
        64,
        ge=1,
        le=1_000_000,
        description="number of user_bucket values; must not change once a warehouse has events",
    )


class MaintenanceSettings(Section):
    """Thinning, vacuum and compaction by maintain_tables."""

    thin_after_days: int = Field(
        30,
        ge=0,
        le=36_500,
        description="every state is kept this long before the repair window, days; "
        "of older ones a user's first and each month's last",
    )
    vacuum_after_days: int = Field(
        30, ge=7, le=36_500, description="files no longer referenced by a table are kept this long, days"
    )
    keep_publications: int = Field(
        14, ge=1, le=100_000, description="newest publications whose files are kept even longer if necessary"
    )
    small_file_mb: int = Field(32, ge=1, le=1024, description="smaller files are compacted, MiB")
    small_files: int = Field(
        8,
        ge=2,
        le=1_000_000,
        description="minimum number of small files in a table or partition for a compaction",
    )


class RecommendSettings(Section):
    """Lists of items for users (docs/recommendations.md)."""

    nightly: bool = Field(
        False,
        description="make lists in every night, for users with new events; recommend_items makes them too",
    )
    top: int = Field(10, ge=1, le=1000, description="items of a list")
    repeat: Literal["allow", "exclude", "only"] = Field(
        "allow",
        description="items that the user chose before: ranked like all others, left out, or ranked alone",
    )
    min_drift: float = Field(
        0.0,
        ge=0,
        le=2,
        description="users whose profile moved less since their list keep it; "
        "1 - cosine with the state behind the list",
    )
    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="weight of how unlike the items of a list are (maximal marginal relevance); 0: off",
    )
    calibration: float = Field(
        0.0,
        ge=0,
        le=1,
        description="weight of how near a list's categories are to those of the user's choices; 0: off",
    )
    exposure_cap: float = Field(
        1.0, gt=0, le=1, description="share of users in whose lists an item may be, about; 1: off"
    )
    block_items: tuple[str, ...] = Field((), description="items that are in no list, by id")
    block_categories: tuple[str, ...] = Field(
        (), description="categories whose items are in no list; an item has the value of category_attribute"
    )
    category_attribute: str = Field(
        "category",
        description="attribute of items that holds the category, for block_categories and calibration",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "RecommendSettings":
        if self.diversity + self.calibration > 1:
            raise ValueError("diversity and calibration are weights; together they must not be above 1")
        return self


class SparkSettings(Section):
    """Resources of a local session; on a cluster, spark-submit's own settings take precedence."""

    shuffle_partitions: int = Field(
        0, ge=0, le=100_000, description="shuffle partitions; 0: one per core of the session"
    )
    driver_memory: str = Field(
        "2g", pattern=r"^[1-9][0-9]{0,5}[mg]$", description="driver memory of a session started by a job"
    )


class Settings(Section):
    """The full configuration."""

    ingest: IngestSettings = IngestSettings()
    privacy: PrivacySettings = PrivacySettings()
    engine: EngineSettings = EngineSettings()
    fold: FoldSettings = FoldSettings()
    store: StoreSettings = StoreSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    recommend: RecommendSettings = RecommendSettings()
    spark: SparkSettings = SparkSettings()

    def config_hash(self) -> str:
        """Hash over all settings."""
        values = self.model_dump(mode="json")
        return _digest(values | {"fold": values["fold"] | HASHED_WITH_FOLD})

    def facet_hashes(self, model_key: str) -> dict[str, str]:
        """The fold_hash with each facet alone, by facet: adding one facet leaves the others' states valid."""
        return {
            name: self.model_copy(update={"fold": self.fold.alone(name)}).fold_hash(model_key)
            for name in self.fold.facet_names
        }

    def fold_hash(self, model_key: str) -> str:
        """Hash over what determines states: gate and constants, weights, facets, caps, model, kernel."""
        fold = self.fold.model_dump(mode="json", exclude={"window_days", "first_day"})
        return _digest({"fold": fold | HASHED_WITH_FOLD, "model_key": model_key, "kernel": KERNEL_VERSION})


def parse_settings(text: str, source: str) -> Settings:
    """Settings from YAML text; `source` names the file in errors. Raises SettingsError with one sentence."""
    try:
        values = parse_document(text)
    except DocumentError as error:
        raise SettingsError(f"{source} {error}") from error
    if values is None:
        return Settings()
    if not isinstance(values, dict):
        raise SettingsError(
            f"{source} must contain sections ({', '.join(Settings.model_fields)}), "
            f"not a {type(values).__name__}"
        )
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{source}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """The first problem found by pydantic, as one sentence."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return told(f"unknown key '{where}'")
    message = (
        "should be a list, in [ ]"
        if problem["type"] == "tuple_type"
        else problem["msg"].removeprefix("Value error, ")
    )
    value, kind = problem["input"], problem["type"]
    # An address may contain a password. A message of our own names what it needs to.
    is_shown = kind not in ("value_error", "missing") and "endpoints" not in problem["loc"]
    if is_shown and isinstance(value, str | int | float):
        message += f", not {repr(value)[:SHOWN_VALUE]}"
    return told(f"{where}: {message}" if where else message)


def default_yaml() -> str:
    """The default configuration as commented YAML: the text of docs/settings.yaml."""
    lines = [
        "# The default configuration, key by key. A file passed by --config needs only the keys it changes."
    ]
    for name, section in Settings.model_fields.items():
        model = section.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        lines += ["", f"# {(model.__doc__ or '').strip()}", f"{name}:"]
        values = model().model_dump(mode="json")
        for key, field in model.model_fields.items():
            lines += [f"  # {field.description}", *_entry_keys(field.annotation)]
            lines.append(f"  {key}: {json.dumps(values[key])}")
    return "\n".join(lines) + "\n"


def _entry_keys(kind: Any) -> list[str]:
    """A comment for each key that the entries of a list have, where `kind` is a list of sections."""
    models = [part for part in get_args(kind) if isinstance(part, type) and issubclass(part, BaseModel)]
    return [
        f"  #   {key}: {field.description}" for model in models for key, field in model.model_fields.items()
    ]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
