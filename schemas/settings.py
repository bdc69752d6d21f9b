"""Every setting of the pipeline: default, unit and purpose. docs/settings.yaml is generated from here."""

import hashlib
import json
import re
from datetime import date
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from schemas.documents import DocumentError, Section, parse_document, told

CODE_VERSION: Final = "0.1.0"
# Incremented whenever the same events and vectors would give different bits.
KERNEL_VERSION: Final = 1
# Hashed with the fold's settings although it is not one: hashes in stored states and run records include it.
HASHED_WITH_FOLD: Final = {"sentiment_key": None}
# Server addresses appear in messages and in the workers' environment, so they must not contain a password.
ADDRESS: Final = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%/-]*)?"
)
# Largest weight of an event type: weights are relative, and their quotients must stay numbers.
HEAVIEST: Final = 1e6
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


class FacetSettings(Section):
    """A subset of a user's events that gets its own profile."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$", description="name in the facet columns")
    where: str = Field(
        description="deterministic Spark SQL predicate over the columns of behavior_events, local_ts, "
        "local_hour, local_weekday, item_attributes and polarity (NULL at present); NULL counts as false"
    )


class FoldSettings(Section):
    """What determines the profiles; any change except to window_days and first_day requires a rebuild."""

    gate: Literal["effective", "literal", "mean", "fixed"] = Field(
        "effective", description="formula for the share of the old profile that an event retains"
    )
    relevance: Literal["follow", "resist"] = Field(
        "follow", description="follow: an off-topic event moves the profile more; resist: it moves it less"
    )
    alpha: float = Field(0.05, ge=0, le=1, description="weight of relevance against memory in the gain")
    k_min: float = Field(0.5, ge=0, lt=1, description="minimum gain")
    k_max: float = Field(0.98, gt=0, lt=1, description="maximum gain")
    max_day_share: float = Field(
        0.8, gt=0, lt=1, description="maximum share by which one day can move a profile"
    )
    daily_cap: int = Field(
        1000,
        ge=1,
        le=1_000_000_000,
        description="events per user and day that count; later ones get weight 0",
    )
    burst_repeats: int = Field(
        10,
        ge=1,
        le=1_000_000_000,
        description="equal events per user that count within burst_seconds; later ones get weight 0",
    )
    burst_seconds: int = Field(60, ge=1, le=86400, description="look-back of burst detection, seconds")
    minute_limit: int = Field(
        1000,
        ge=1,
        le=1_000_000_000,
        description="events a person can cause within a minute; a day with more gets weight 0",
    )
    type_weights: dict[str, Annotated[float, Field(ge=0, le=HEAVIEST)]] = Field(
        default_factory=lambda: {
            "purchase": 1.0, "return": 1.0, "review": 1.0, "rating": 0.8,
            "cart": 0.6, "click": 0.3, "view": 0.2,
        },
        description="weight of each event type, relative to the largest; 0: stored, never folded",
    )  # fmt: skip
    default_type_weight: float = Field(
        0.2, ge=0, le=HEAVIEST, description="weight of types not listed, on the same scale"
    )
    opinion_floor: float = Field(
        0.25,
        ge=0,
        le=1,
        description="weight factor of a neutral rating (or polarity, if unrated); a clear one has factor 1",
    )
    negative_where: str = Field(
        "rating < 0.4 OR event_type = 'return' OR polarity < -0.5",
        description="events of the facet `negative`, which enter no other facet; a predicate as in facets",
    )
    facets: tuple[FacetSettings, ...] = Field(
        (), description="facets besides main and negative, e.g. [{name: at_home, where: place = 'home'}]"
    )
    window_days: int = Field(
        7, ge=0, le=60, description="repair window: how late an event may arrive and still be folded in, days"
    )
    first_day: date | None = Field(
        None, description="first log day of the warehouse; null: set by --bootstrap or a backfill"
    )

    @property
    def predicates(self) -> dict[str, str]:
        """Every predicate by the name under which a message shows it."""
        return {"negative_where": self.negative_where, **{f"facet {f.name}": f.where for f in self.facets}}

    @model_validator(mode="after")
    def _consistent(self) -> "FoldSettings":
        if self.k_min > self.k_max:
            raise ValueError("k_min must not be above k_max")
        names = [f.name for f in self.facets]
        if len(set(names)) < len(names) or {"main", "negative"} & set(names):
            raise ValueError("facet names must be distinct, and not main or negative")
        if max([*self.type_weights.values(), self.default_type_weight]) <= 0:
            raise ValueError("at least one type weight must be above 0")
        return self


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
    spark: SparkSettings = SparkSettings()

    def config_hash(self) -> str:
        """Hash over all settings."""
        values = self.model_dump(mode="json")
        return _digest(values | {"fold": values["fold"] | HASHED_WITH_FOLD})

    def facet_hashes(self, model_key: str) -> dict[str, str]:
        """The fold_hash with each facet alone, by facet: adding one facet leaves the others' states valid."""
        alone = {"main": (), "negative": ()} | {facet.name: (facet,) for facet in self.fold.facets}
        return {
            name: self.model_copy(update={"fold": self.fold.model_copy(update={"facets": facets})}).fold_hash(
                model_key
            )
            for name, facets in alone.items()
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
            lines += [f"  # {field.description}", f"  {key}: {json.dumps(values[key])}"]
    return "\n".join(lines) + "\n"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
