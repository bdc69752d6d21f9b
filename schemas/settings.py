"""Every setting of the pipeline, with its default, its unit and its reason; docs/settings.yaml is printed from here."""

import hashlib
import json
import re
from datetime import date
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

CODE_VERSION: Final = "0.1.0"
# Raised whenever the same events and vectors would give other bits.
KERNEL_VERSION: Final = 1
# Not a setting, but hashed with those of the fold: the hashes in stored states and run records were made when it was one.
HASHED_WITH_FOLD: Final = {"sentiment_key": None}
# A server's address stands in messages and in the workers' environment: it must hold no password, and one that is wrong is told at once.
ADDRESS: Final = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%/-]*)?"
)


class SettingsError(ValueError):
    """The configuration file can't be used; the message is one sentence for its author."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineSettings(_Section):
    """What turns texts into vectors."""

    kind: Literal["vllm", "vllm_server", "hash"] = Field(
        "vllm",
        description="vllm: inside the Spark worker; vllm_server: running OpenAI-compatible servers; hash: a hashed bag of words",
    )
    model: str | None = Field(
        None, description="folder or hub name of a model vLLM can pool; null: the packaged all-MiniLM-L6-v2"
    )
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")
    dtype: Literal["auto", "bfloat16", "float32", "float16"] = Field(
        "auto",
        description="auto: bfloat16 on a GPU and on CPUs measured to be faster in it, else float32 (vLLM's own auto takes a slow float16)",
    )
    pooling: Literal["MEAN", "CLS", "LAST"] = Field(
        "MEAN", description="how token vectors become one; must be what the model was trained with"
    )
    prefix: str = Field("", description="put before every text, for models that were trained with one")
    max_tokens: int = Field(
        256, ge=8, description="tokens the model sees of a text; longer ones are cut and marked truncated"
    )
    dimensions: int | None = Field(
        None, ge=2, description="keep only the first numbers of a Matryoshka model's vector; null: all"
    )
    hash_dimensions: int = Field(64, ge=2, description="vector length of the hash engine")
    tile_texts: int = Field(
        16384,
        ge=1,
        description="texts committed at a time, at most; a killed job embeds two such tiles again",
    )
    call_tokens: int = Field(
        65536,
        ge=1,
        description="tokens in one engine call, at most (or one text); bounds the memory of a task",
    )
    partitions: int = Field(
        1,
        ge=1,
        description="tasks that embed at the same time, each with an engine: one for each machine, or GPU",
    )
    threads: int = Field(0, ge=0, description="CPU threads of the engine; 0: every core of the machine")
    timeout_s: int = Field(
        900,
        ge=1,
        le=86400,
        description="how long the start of an engine, or one call, may take before the job stops, seconds",
    )
    gpus: int = Field(
        0,
        ge=0,
        description="GPUs of one engine (tensor parallel), asked of Spark on a cluster; 0: ask for none",
    )
    engines_per_gpu: int = Field(
        1, ge=1, description="engines that share one GPU, where a small model leaves it idle"
    )
    endpoints: tuple[str, ...] = Field(
        (), description="addresses of running servers of the same model, e.g. http://gpu1:8000"
    )
    served_model: str | None = Field(
        None, description="the model's name on the servers; null: the only one they have"
    )
    key_variable: str = Field(
        "NIGHTFOLD_ENGINE_KEY",
        pattern=r"^[A-Z][A-Z0-9_]*$",
        description="environment variable that holds the servers' API key, if any",
    )
    requests: int = Field(4, ge=1, description="requests that one task has open at the servers at a time")

    @model_validator(mode="after")
    def _consistent(self) -> "EngineSettings":
        if self.kind == "vllm_server" and not self.endpoints:
            raise ValueError("the vllm_server engine needs endpoints, e.g. [http://gpu1:8000]")
        for number, endpoint in enumerate(self.endpoints, 1):
            if not ADDRESS.fullmatch(endpoint):
                # Without its words: it may hold a password.
                raise ValueError(
                    f"endpoint {number} is no address like http://gpu1:8000 with at most a path behind; a key goes into the variable "
                    "that key_variable names"
                )
            if endpoint.rstrip("/").endswith("/v1"):
                raise ValueError(f"endpoint {number} is given without /v1, which the engine adds")
        if self.engines_per_gpu > 1 and self.gpus > 1:
            raise ValueError("an engine has several GPUs or shares one, not both")
        return self


class IngestSettings(_Section):
    """What the ingest takes for a record, and when it refuses a day or a file."""

    max_bad_share: float = Field(
        0.5, ge=0, le=1, description="a log day with a greater share of records in quarantine is refused"
    )
    unknown_types: Literal["keep", "quarantine"] = Field(
        "keep",
        description="what becomes of event types that fold.type_weights does not list; kept ones get fold.default_type_weight",
    )
    max_record_kb: int = Field(
        1024, ge=1, le=65536, description="longer records are quarantined, KiB of their texts and ids"
    )
    max_id_chars: int = Field(
        512, ge=1, le=10000, description="records with longer ids are quarantined, characters"
    )
    max_expansion: int = Field(
        200, ge=1, description="a compressed file that unpacks to more than so many times its size is refused"
    )


class PrivacySettings(_Section):
    """What is hidden before anything is stored. A change holds from the next ingest on; stored rows stay as they are."""

    scrub_texts: bool = Field(
        False,
        description="replace e-mail addresses, phone and card numbers and IP addresses in texts and titles",
    )
    phone_region: str | None = Field(
        None,
        pattern=r"^[A-Z]{2}$",
        description="country whose phone numbers are known without their +code, e.g. GB; null: only with it",
    )
    user_ids: Literal["plain", "keyed"] = Field(
        "plain", description="keyed: only HMAC-SHA-256 of user ids under the key is stored"
    )
    key_file: str | None = Field(
        None, description="file with the secret key; null: the environment variable NIGHTFOLD_KEY"
    )


class FacetSettings(_Section):
    """A part of a user's behaviour that gets a profile of its own."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$", description="name in the facet columns")
    where: str = Field(
        description="deterministic Spark SQL predicate over behavior_events, and polarity; NULL counts as false"
    )


class FoldSettings(_Section):
    """What gives profiles their meaning; a change here (but for window_days and first_day) asks for a rebuild."""

    gate: Literal["effective", "literal", "mean", "fixed"] = Field(
        "effective", description="how much of the old profile an event leaves"
    )
    relevance: Literal["follow", "resist"] = Field(
        "follow", description="follow: an off-topic event moves more; resist: it moves less"
    )
    alpha: float = Field(0.05, ge=0, le=1, description="share of relevance, against memory, in the gain")
    k_min: float = Field(0.5, ge=0, lt=1, description="least gain")
    k_max: float = Field(0.98, gt=0, lt=1, description="greatest gain")
    max_day_share: float = Field(0.8, gt=0, lt=1, description="one day moves a profile by at most this share")
    daily_cap: int = Field(
        1000, ge=1, description="events of one user and day that count; later ones weigh nothing"
    )
    burst_repeats: int = Field(
        10,
        ge=1,
        description="equal events of a user within burst_seconds that count; later ones weigh nothing",
    )
    burst_seconds: int = Field(
        60, ge=1, le=86400, description="how long a burst of equal events is looked back upon, seconds"
    )
    minute_limit: int = Field(
        1000,
        ge=1,
        description="events of a user within a minute that a person may make; beyond it the whole day weighs nothing",
    )
    type_weights: dict[str, float] = Field(
        default_factory=lambda: {
            "purchase": 1.0, "return": 1.0, "review": 1.0, "rating": 0.8, "cart": 0.6, "click": 0.3, "view": 0.2,
        },
        description="weight of each event type, divided by the largest; 0: stored but never folded",
    )  # fmt: skip
    default_type_weight: float = Field(
        0.2, ge=0, description="weight of a type that is not listed, on the same scale"
    )
    opinion_floor: float = Field(
        0.25,
        ge=0,
        le=1,
        description="factor of a neutral rating (or polarity, where there is no rating); a clear one counts in full",
    )
    negative_where: str = Field(
        "rating < 0.4 OR event_type = 'return' OR polarity < -0.5",
        description="what enters the facet `negative`, and so no other; same language as facets",
    )
    facets: tuple[FacetSettings, ...] = Field(
        (), description="named contexts beside main and negative, e.g. {name: at_home, where: place = 'home'}"
    )
    window_days: int = Field(
        7, ge=0, le=60, description="how late an event may arrive and be repaired in, days"
    )
    first_day: date | None = Field(
        None, description="the first log day of this warehouse; null: asked for by --bootstrap or a backfill"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "FoldSettings":
        if self.k_min > self.k_max:
            raise ValueError("k_min is above k_max")
        names = [f.name for f in self.facets]
        if len(set(names)) < len(names) or {"main", "negative"} & set(names):
            raise ValueError("facet names must differ from each other and from main and negative")
        if (
            any(w < 0 for w in self.type_weights.values())
            or max([*self.type_weights.values(), self.default_type_weight]) <= 0
        ):
            raise ValueError("type weights must be 0 or more, and one of them above 0")
        return self


class StoreSettings(_Section):
    """How tables are laid out."""

    user_buckets: int = Field(
        64, ge=1, description="number of user_bucket values; fixed once a warehouse has events"
    )


class MaintenanceSettings(_Section):
    """What maintain_tables keeps, and what it thinks too small."""

    thin_after_days: int = Field(
        30,
        ge=0,
        description="so long before the window states are kept for every day, before that for the first one and the ends of months, days",
    )
    vacuum_after_days: int = Field(
        30, ge=7, description="files that no table needs any more are kept so long, days"
    )
    keep_publications: int = Field(
        14, ge=1, description="the newest publications, whose files are kept for longer where that is needed"
    )
    small_file_mb: int = Field(
        32, ge=1, le=1024, description="files below this size are packed together, MiB"
    )
    small_files: int = Field(
        8, ge=2, description="so many of them in a table, or in a partition, are worth packing"
    )


class SparkSettings(_Section):
    """What a local session gets; on a cluster spark-submit's own settings win."""

    shuffle_partitions: int = Field(
        0, ge=0, description="partitions of a shuffle; 0: one for each core the session has"
    )
    driver_memory: str = Field(
        "2g", pattern=r"^\d+[mg]$", description="memory of a session that a job starts itself"
    )


class Settings(_Section):
    """The whole configuration."""

    ingest: IngestSettings = IngestSettings()
    privacy: PrivacySettings = PrivacySettings()
    engine: EngineSettings = EngineSettings()
    fold: FoldSettings = FoldSettings()
    store: StoreSettings = StoreSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    spark: SparkSettings = SparkSettings()

    def config_hash(self) -> str:
        """Hash over all settings."""
        values = self.model_dump(mode="json")
        return _digest(values | {"fold": values["fold"] | HASHED_WITH_FOLD})

    def facet_hashes(self, model_key: str) -> dict[str, str]:
        """The fold_hash as it would be with each facet alone: another facet beside it changes no state of it."""
        alone = {"main": (), "negative": ()} | {facet.name: (facet,) for facet in self.fold.facets}
        return {
            name: self.model_copy(update={"fold": self.fold.model_copy(update={"facets": facets})}).fold_hash(
                model_key
            )
            for name, facets in alone.items()
        }

    def fold_hash(self, model_key: str) -> str:
        """Hash over what gives all states their meaning: gate and constants, weights, facets, caps, sentiment, model, kernel."""
        fold = self.fold.model_dump(mode="json", exclude={"window_days", "first_day"})
        return _digest({"fold": fold | HASHED_WITH_FOLD, "model_key": model_key, "kernel": KERNEL_VERSION})


def parse_settings(text: str, source: str) -> Settings:
    """Settings from YAML text; `source` names it in errors. Raises SettingsError with one sentence."""
    try:
        values: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{source} is not readable YAML: {_one_line(error)}") from error
    if values is None:
        return Settings()
    if not isinstance(values, dict):
        raise SettingsError(
            f"{source} must hold sections ({', '.join(Settings.model_fields)}), not a {type(values).__name__}"
        )
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{source}: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """The first problem pydantic found, as one sentence."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{where}'"
    said = (
        "should be a list, in [ ]"
        if problem["type"] == "tuple_type"
        else problem["msg"].removeprefix("Value error, ")
    )
    return f"{where}: {said}" if where else said


def default_yaml() -> str:
    """The default configuration as commented YAML: the text of docs/settings.yaml."""
    lines = [
        "# The default configuration, line by line. A file given by --config needs only the keys it changes."
    ]
    for name, section in Settings.model_fields.items():
        model = section.annotation
        assert isinstance(model, type) and issubclass(model, BaseModel)
        lines += ["", f"# {(model.__doc__ or '').strip()}", f"{name}:"]
        values = model().model_dump(mode="json")
        for key, field in model.model_fields.items():
            lines += [f"  # {field.description}", f"  {key}: {json.dumps(values[key])}"]
    return "\n".join(lines) + "\n"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
