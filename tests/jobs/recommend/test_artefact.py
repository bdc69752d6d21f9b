"""A ranker's file: the same bytes again, no pickle, refused where it is another one, and placed by ids."""

import pickle
import zipfile

import numpy as np
import pyarrow as pa
import pytest

from jobs.io.messages import JobError
from jobs.recommend.artefact import load, save, sha256_of

IDS = pa.array(["a", "é", "z\0z"])
ARRAYS = {
    "popularity": np.array([1.0, 2.0, 3.0]),
    "near_data": np.array([0.5, -1.0], np.float32),
    "near_items": np.array([2, 0], np.int32),
    "near_starts": np.array([0, 1, 1, 2]),
}


def test_what_is_saved_is_loaded_and_has_the_same_bytes_again(tmp_path):
    digest = save(IDS, ARRAYS, tmp_path / "a.npz")
    assert digest == save(IDS, ARRAYS, tmp_path / "b.npz") == sha256_of(tmp_path / "b.npz")
    found = load(tmp_path / "a.npz", digest)
    assert found.ids.equals(IDS) and found.popularity.tolist() == [1, 2, 3]
    assert [part.tolist() for part in found.near] == [[0.5, -1.0], [2, 0], [0, 1, 1, 2]]


def test_a_file_that_is_gone_or_another_one_is_refused(tmp_path):
    digest = save(IDS, ARRAYS, tmp_path / "a.npz")
    with pytest.raises(JobError, match=r"b\.npz.*run train_ranker again"):
        load(tmp_path / "b.npz", digest)
    save(IDS, ARRAYS | {"popularity": np.zeros(3)}, tmp_path / "a.npz")
    with pytest.raises(JobError, match=r"a\.npz"):
        load(tmp_path / "a.npz", digest)


def test_nothing_is_unpickled(tmp_path):
    """Even where somebody who may write the table has given the file its digest."""
    raw, objects = tmp_path / "raw.npz", tmp_path / "objects.npz"
    with zipfile.ZipFile(raw, "w") as made:
        made.writestr("ids.npy", pickle.dumps(print))
    np.savez(objects, ids=np.array([print]))
    for path in (raw, objects):
        with pytest.raises(JobError, match=path.name):
            load(path, sha256_of(path))


def test_other_items_take_over_what_the_file_knows_of_them(tmp_path):
    found = load(tmp_path / "a.npz", save(IDS, ARRAYS, tmp_path / "a.npz"))
    popularity, near = found.placed(pa.array(["0new", "a", "b", "z\0z"]))
    assert popularity.tolist() == [0, 1, 0, 3]
    # Of a's weight on z and z's on a both items are there; é is gone.
    assert [part.tolist() for part in near] == [[0.5, -1.0], [3, 1], [0, 0, 1, 1, 2]]
