"""The model's files: the key of their meaning, the tokenizer, and files that are missing or corrupt."""

from dataclasses import replace

import pytest

from tests.udfs.engines.configs import config
from udfs.engines.model import load_tokenizer, model_key, tokenise
from udfs.errors import EngineError


@pytest.mark.parametrize(
    "change", [{"pooling": "CLS"}, {"prefix": "query: "}, {"max_tokens": 128}, {"dimensions": 64}]
)
def test_a_setting_that_changes_the_meaning_of_vectors_changes_the_key(change):
    assert model_key(config(**change)) != model_key(config())


@pytest.mark.parametrize("change", [{"dtype": "float32"}, {"threads": 1}, {"call_tokens": 7}])
def test_a_setting_that_changes_only_bits_or_speed_keeps_the_key(change):
    assert model_key(config(**change)) == model_key(config())


def test_the_key_follows_the_weights_and_the_tokenizer(tmp_path):
    keys = set()
    for weights, tokens in (("a", "x"), ("b", "x"), ("b", "y")):
        folder = tmp_path / (weights + tokens) / "Some Model"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text(weights)
        (folder / "tokenizer.json").write_text(tokens)
        keys.add(model_key(config(model=str(folder))))
    assert len(keys) == 3 and all(key.startswith("some-model-") for key in keys)


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(EngineError, match="safetensors"):
        model_key(config(model=str(tmp_path)))


def test_a_missing_folder_is_named():
    with pytest.raises(EngineError, match="there is no folder /no/such/model"):
        model_key(config(model="/no/such/model"))


@pytest.mark.parametrize("name", ["foo--bar", "some/model-", "a..b", "no-one/has-this"])
def test_a_name_that_is_not_in_the_hub_cache_is_reported(name):
    with pytest.raises(EngineError, match="is neither a folder nor in the local hub cache"):
        model_key(config(model=name))


def test_the_home_of_an_unknown_user_is_reported():
    with pytest.raises(EngineError, match="there is no folder ~nobody-of-this-name/model"):
        model_key(config(model="~nobody-of-this-name/model"))


def test_a_missing_or_corrupt_tokenizer_is_reported(tmp_path):
    broken = config(model=str(tmp_path))
    with pytest.raises(EngineError, match=r"has no tokenizer\.json"):
        load_tokenizer(broken)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(EngineError, match=r"tokenizer\.json can't be read"):
        load_tokenizer(broken)


def test_a_text_is_cut_by_characters_and_then_by_tokens():
    short = config(max_tokens=16)
    tokenizer = load_tokenizer(short)
    texts = ["tea", "tea " * 14, "tea " * 15, "x" * 1000, "", "\ud800", "[PAD] [SEP]", "😀" * 40]
    tokens = tokenise(tokenizer, short, texts)
    assert [len(ids) for ids in tokens.ids[:4]] == [3, 16, 16, 3]
    assert all(len(ids) <= 16 for ids in tokens.ids)
    assert tokens.truncated.tolist() == [False, False, True, True, False, False, False, False]
    assert tokenise(tokenizer, replace(short, prefix="tea "), ["tea " * 14]).truncated.tolist() == [True]
    assert tokenise(tokenizer, short, []).ids == []


def test_a_prefix_that_leaves_no_room_for_a_text_is_refused():
    with pytest.raises(EngineError, match=r"prefix alone has the 8 tokens of engine\.max_tokens"):
        load_tokenizer(config(max_tokens=8, prefix="one two three four five six "))
    load_tokenizer(config(max_tokens=8, prefix="one two three four five "))
