"""Settings: a mistake gives one sentence, and only what determines profiles changes fold_hash."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from schemas.fold_settings import FacetSettings, FoldSettings
from schemas.settings import (
    CODE_VERSION,
    EngineSettings,
    IngestSettings,
    MaintenanceSettings,
    PrivacySettings,
    Settings,
    SettingsError,
    SparkSettings,
    StoreSettings,
    default_yaml,
    parse_settings,
)

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTED = ROOT / "docs" / "settings.yaml"
MODEL = "a-model-0123456789ab"

# For each field, a value other than its default.
OTHER: dict[str, dict[str, Any]] = {
    "ingest": {
        "max_bad_share": 0.1,
        "unknown_types": "quarantine",
        "max_record_kb": 64,
        "max_id_chars": 64,
        "max_expansion": 50,
    },
    "privacy": {"scrub_texts": True, "phone_region": "GB", "user_ids": "keyed", "key_file": "key"},
    "engine": {
        "kind": "hash",
        "model": "models/e5-small",
        "dtype": "float32",
        "pooling": "CLS",
        "prefix": "query: ",
        "max_tokens": 128,
        "dimensions": 64,
        "hash_dimensions": 32,
        "embed_items": False,
        "tile_texts": 100,
        "call_tokens": 10,
        "partitions": 2,
        "threads": 1,
        "trust_remote_code": True,
        "timeout_s": 60,
        "gpus": 2,
        "engines_per_gpu": 2,
        "endpoints": ["http://gpu1:8000"],
        "served_model": "e5-small",
        "key_variable": "OTHER_KEY",
        "key_file": "engine.key",
        "requests": 8,
    },
    "fold": {
        "gate": "mean",
        "relevance": "resist",
        "alpha": 0.1,
        "k_min": 0.4,
        "k_max": 0.9,
        "max_day_share": 0.7,
        "burst_repeats": 3,
        "burst_seconds": 10,
        "minute_limit": 500,
        "daily_cap": 10,
        "type_weights": {"view": 1.0},
        "default_type_weight": 0.1,
        "opinion_floor": 0.5,
        "negative_where": "rating < 0.5",
        "facets": [{"name": "at_home", "where": "place = 'home'"}],
        "window_days": 3,
        "first_day": "2025-03-03",
    },
    "store": {"user_buckets": 8},
    "maintenance": {
        "thin_after_days": 60,
        "vacuum_after_days": 14,
        "keep_publications": 30,
        "small_file_mb": 16,
        "small_files": 4,
    },
    "recommend": {
        "nightly": True,
        "top": 20,
        "repeat": "exclude",
        "min_drift": 0.01,
        "diversity": 0.2,
        "calibration": 0.3,
        "exposure_cap": 0.5,
        "block_items": ["knife"],
        "block_categories": ["weapons"],
        "category_attribute": "genre",
    },
    "spark": {"shuffle_partitions": 4, "driver_memory": "4g"},
}
# For each constant that a facet may have, a value other than the default.
OWN: dict[str, Any] = {
    "half_life_days": 30,
    "gate": "mean",
    "relevance": "resist",
    "alpha": 0.1,
    "k_min": 0.4,
    "k_max": 0.9,
    "type_weights": {"view": 1.0},
}
CHANGES = [(section, key) for section, values in OTHER.items() for key in values]
OUTSIDE_FOLD_HASH = {("fold", "window_days"), ("fold", "first_day")}


def changed(section: str, key: str) -> Settings:
    return Settings.model_validate({section: {key: OTHER[section][key]}})


def problem(text: str) -> str:
    """The message about a faulty file."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, "my.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fould: {}", "unknown key 'fould'"),
        ("fold: {alfa: 0.1}", "unknown key 'fold.alfa'"),
        ("fold: {facets: [{name: evening, where: 'true', when: x}]}", "unknown key 'fold.facets.0.when'"),
        ("fold: [", "is not valid YAML"),
        ("fold:\n\talpha: 0.1", "is not valid YAML"),
        ("!!python/object:os.system {}", "uses a tag on line 1"),
        ("- fold", "not a list"),
        ("fold", "not a str"),
        ("engine: {timeout_s: 1000000000000}", "engine.timeout_s: "),
        ("engine: {endpoints: ['http://me:hidden@gpu1:8000']}", "endpoint 1 is not an address like"),
        ("engine: {endpoints: ['http://gpu1:8000?key=hidden']}", "endpoint 1 is not an address like"),
        ("engine: {endpoints: ['http://gpu1:port']}", "endpoint 1 is not an address like"),
        ("engine: {endpoints: ['http:///v']}", "endpoint 1 is not an address like"),
        ("engine: {endpoints: ['http://gpu 1']}", "endpoint 1 is not an address like"),
        ("fold: {k_min: 0.9, k_max: 0.6}", "k_min must not be above k_max"),
        ("fold: {alpha: 1.5}", "fold.alpha: "),
        ("fold: {alpha: .nan}", "fold.alpha: "),
        ("fold: {gate: best}", "fold.gate: "),
        ("fold: {first_day: someday}", "fold.first_day: "),
        ("fold: {type_weights: {view: -1}}", "fold.type_weights.view: "),
        ("fold: {type_weights: {view: 0}, default_type_weight: 0}", "one type weight must"),
        ("fold: {facets: [{name: main, where: 'true'}]}", "main and negative take no where"),
        ("fold: {facets: [{name: main}, {name: main}]}", "facet names must be distinct"),
        ("fold: {facets: [{name: recent, half_life_days: 0.5}]}", "fold.facets.0.half_life_days: "),
        ("fold: {facets: [{name: recent, k_max: 0.4}]}", "facet recent: k_min must not be above k_max"),
        ("fold: {facets: [{name: main, k_min: 0.99}]}", "facet main: k_min must not be above k_max"),
        ("fold: {facets: [{name: a, type_weights: {view: -1}}]}", "fold.facets.0.type_weights.view: "),
        (
            "fold: {type_weights: {view: 0}, facets: [{name: a, type_weights: {view: 1}}]}",
            "facet a: the event type view has weight 0",
        ),
        (
            "fold: {default_type_weight: 0, facets: [{name: a, type_weights: {like: 1}}]}",
            "facet a: the event type like has weight 0",
        ),
        (
            "fold: {default_type_weight: 0, facets: [{name: a, type_weights: {view: 0}}]}",
            "facet a: at least one",
        ),
        ("fold: {facets: [{name: Evening, where: 'true'}]}", "fold.facets.0.name: "),
        ("fold: {facets: [{name: a, where: x}, {name: a, where: y}]}", "facet names"),
        ("spark: {driver_memory: much}", "spark.driver_memory: "),
        ("store: {user_buckets: 0}", "store.user_buckets: "),
        ("engine: {kind: vllm_server}", "my.yaml: engine: the vllm_server engine needs endpoints"),
        ("engine: {endpoints: 'http://gpu1:8000'}", "engine.endpoints: should be a list"),
        ("engine: {endpoints: ['gpu1:8000']}", "endpoint 1 is not an address like"),
        ("engine: {endpoints: ['http://:8000']}", "endpoint 1 is not an address like"),
        ("engine: {endpoints: ['http://gpu1:80a0']}", "endpoint 1 is not an address like"),
        ("engine: {endpoints: ['http://gpu1:8000/v1/']}", "must not end with /v1"),
        ("recommend: {diversity: 0.6, calibration: 0.6}", "together they must not be above 1"),
    ],
)
def test_a_mistake_gives_one_sentence_that_names_file_and_key(text, says):
    sentence = problem(text)
    assert sentence.startswith("my.yaml") and says in sentence and "\n" not in sentence


def test_an_empty_file_gives_the_defaults():
    assert parse_settings("", "my.yaml") == parse_settings("# nothing yet\n", "my.yaml") == Settings()


def test_a_file_needs_only_the_keys_it_changes():
    settings = parse_settings("fold: {alpha: 0.5}", "my.yaml")
    assert settings.fold.alpha == 0.5
    assert settings.model_copy(update={"fold": FoldSettings()}) == Settings()


def test_the_documented_settings_are_the_defaults():
    text = DOCUMENTED.read_text(encoding="utf-8")
    assert text == default_yaml(), "run `make docs`"
    assert parse_settings(text, "docs/settings.yaml") == Settings()


SECTIONS = [
    IngestSettings,
    PrivacySettings,
    EngineSettings,
    FoldSettings,
    StoreSettings,
    MaintenanceSettings,
    SparkSettings,
]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_described(section):
    assert [name for name, field in section.model_fields.items() if not field.description] == []


def test_the_hashes_are_tested_with_every_field():
    sections = {name: set(getattr(Settings(), name).model_dump()) for name in Settings.model_fields}
    assert {section: set(values) for section, values in OTHER.items()} == sections


@pytest.mark.parametrize(("section", "key"), CHANGES)
def test_every_field_changes_the_config_hash(section, key):
    assert changed(section, key).config_hash() != Settings().config_hash()


@pytest.mark.parametrize(("section", "key"), CHANGES)
def test_only_what_determines_profiles_changes_the_fold_hash(section, key):
    determines = section == "fold" and (section, key) not in OUTSIDE_FOLD_HASH
    assert (changed(section, key).fold_hash(MODEL) != Settings().fold_hash(MODEL)) == determines


def test_hashes_equal_those_already_stored():
    """Update them with a new setting: one of the fold changes all of them, any other one the config_hash."""
    settings = changed("fold", "facets")
    assert Settings().config_hash() == "606d98f152554b55"
    assert Settings().fold_hash(MODEL) == "a2a209cafd48a672"
    assert settings.facet_hashes(MODEL) == {
        "main": "a2a209cafd48a672",
        "negative": "a2a209cafd48a672",
        "at_home": "2f6f33caa58d0894",
    }


def test_hashes_without_constants_of_a_facet_s_own_are_those_of_the_fold():
    plain = parse_settings("", "my.yaml")
    named = parse_settings("fold: {facets: [{name: main}, {name: negative}]}", "my.yaml")
    assert named.facet_hashes(MODEL) == plain.facet_hashes(MODEL)
    nulls = {"name": "at_home", "where": "place = 'home'"} | dict.fromkeys(OWN)
    settings = Settings.model_validate({"fold": {"facets": [nulls]}})
    assert settings.config_hash() == changed("fold", "facets").config_hash()
    assert settings.facet_hashes(MODEL) == changed("fold", "facets").facet_hashes(MODEL)


def test_every_constant_of_a_facet_is_tested():
    assert {"name", "where", *OWN} == set(FacetSettings.model_fields)


@pytest.mark.parametrize("name", ["main", "negative", "recent"])
@pytest.mark.parametrize("key", OWN)
def test_a_facet_s_own_constant_changes_its_hash_and_no_other(name, key):
    def hashes(facet):
        others = [{"name": other} for other in ("recent", "long") if other != name]
        return Settings.model_validate({"fold": {"facets": [facet, *others]}}).facet_hashes(MODEL)

    before, after = hashes({"name": name}), hashes({"name": name, key: OWN[key]})
    assert {facet for facet in before if before[facet] != after[facet]} == {name}


def test_a_facet_s_hash_depends_on_its_constants_and_not_on_who_set_them():
    own = [key for key in OWN if key in FoldSettings.model_fields and key != "type_weights"]
    by_facet = Settings.model_validate(
        {"fold": {"facets": [{"name": "main"} | {key: OWN[key] for key in own}]}}
    )
    by_fold = Settings.model_validate({"fold": {key: OWN[key] for key in own}})
    assert by_facet.facet_hashes(MODEL)["main"] == by_fold.facet_hashes(MODEL)["main"]
    common = parse_settings("fold: {alpha: 0.5, facets: [{name: main, alpha: 0.05}]}", "my.yaml")
    assert common.facet_hashes(MODEL)["main"] == Settings().facet_hashes(MODEL)["main"]


def test_a_facet_has_the_fold_s_constants_where_it_has_none():
    facets = "[{name: recent, k_max: 0.9, half_life_days: 14}, {name: main, gate: mean}]"
    fold = parse_settings(f"fold: {{alpha: 0.3, facets: {facets}}}", "my.yaml").fold
    common = {"gate": "effective", "relevance": "follow", "alpha": 0.3, "k_min": 0.5, "k_max": 0.98}
    assert fold.facet_names == ("main", "negative", "recent")
    assert fold.constants_of("negative") == common | {"half_life_days": None}
    assert fold.constants_of("main") == common | {"gate": "mean", "half_life_days": None}
    assert fold.constants_of("recent") == common | {"k_max": 0.9, "half_life_days": 14}


def test_the_model_changes_the_fold_hash():
    assert Settings().fold_hash(MODEL) != Settings().fold_hash("another-model-0123456789ab")


def test_a_facet_s_hash_changes_only_with_what_determines_its_states():
    def hashes(text):
        return parse_settings(f"fold: {{{text}}}", "my.yaml").facet_hashes(MODEL)

    plain = hashes("")
    evening = hashes("facets: [{name: evening, where: a}]")
    assert plain == {"main": Settings().fold_hash(MODEL), "negative": Settings().fold_hash(MODEL)}
    assert evening | plain == evening and evening.keys() - plain.keys() == {"evening"}
    assert (
        hashes("facets: [{name: home, where: b}, {name: evening, where: a}]")["evening"] == evening["evening"]
    )
    assert hashes("facets: [{name: evening, where: b}]")["evening"] != evening["evening"]
    for common in ("alpha: 0.5", "negative_where: 'rating < 0.1'"):
        changed = hashes(f"{common}, facets: [{{name: evening, where: a}}]")
        assert not set(changed.values()) & set(evening.values())


def test_no_two_changes_share_a_hash():
    hashes = [changed(section, key).config_hash() for section, key in CHANGES]
    assert len(set(hashes)) == len(hashes)


def test_order_and_spelling_of_a_file_change_no_hash():
    one = parse_settings("fold: {k_max: 0.9, type_weights: {view: 1, cart: 2}}", "one.yaml")
    other = parse_settings("fold: {type_weights: {cart: 2.0, view: 1.0}, k_max: 0.90}", "other.yaml")
    assert one.config_hash() == other.config_hash() and one.fold_hash(MODEL) == other.fold_hash(MODEL)


def test_server_addresses_may_have_port_and_path_and_wrong_ones_are_not_repeated():
    for address in (
        "http://gpu1",
        "https://gpu-1.example.org:8443/",
        "http://127.0.0.1:8000/models/e5",
        "http://[::1]:8000",
    ):
        assert parse_settings(f"engine: {{endpoints: ['{address}']}}", "my.yaml").engine.endpoints == (
            address,
        )
    assert "hidden" not in problem("engine: {endpoints: ['http://me:hidden@gpu1:8000']}")


def test_the_project_file_has_the_version_of_the_code():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == CODE_VERSION
