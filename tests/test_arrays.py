"""Files of arrays that are whole; tests/test_damage.py has those that are not."""

import io
import zipfile

import numpy as np
import pytest

from light_sernet_kd import arrays

RNG = np.random.default_rng(0)


def test_an_array_is_read_when_it_is_asked_for(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, good=np.arange(3), broken=np.arange(100.0))
    content = bytearray(path.read_bytes())
    place = content.index(np.arange(100.0).tobytes()[:80])
    content[place + 40] ^= 1
    path.write_bytes(content)
    with arrays.open_arrays(path) as opened:
        assert [*opened] == ["good", "broken"]
        np.testing.assert_array_equal(opened["good"], np.arange(3))
        with pytest.raises(arrays.ArrayError, match="is damaged"):
            opened["broken"]


@pytest.mark.parametrize("rows", [0, 5])
def test_blocks_are_one_npy_that_numpy_reads_and_that_is_mapped(tmp_path, rows):
    path, dtype = tmp_path / "a.npy", np.dtype([("id", "<u4"), ("value", "<f4", (2,))])
    whole = np.zeros(rows, dtype)
    whole["id"], whole["value"] = np.arange(rows), RNG.normal(size=(rows, 2))
    with open(path, "w+b") as file:
        arrays.write_blocks(file, (whole[:2], whole[2:]), whole.shape, dtype)
    np.testing.assert_array_equal(np.load(path), whole)
    mapped = arrays.open_mapped(path, shape=(None,), dtype=dtype)
    np.testing.assert_array_equal(mapped, whole)
    if rows:
        with pytest.raises(ValueError, match="read-only"):
            mapped["id"][0] = 1
    with pytest.raises(arrays.ArrayError, match="is damaged"):
        arrays.open_mapped(path, shape=(rows + 1,), dtype=dtype)


def test_an_archive_of_anything_is_checked_to_its_last_byte(tmp_path):
    path = tmp_path / "student.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}" * 50)
    arrays.check_archive(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"{}{}") + 9] ^= 1
    path.write_bytes(content)
    with pytest.raises(arrays.ArrayError, match="is damaged"):
        arrays.check_archive(path)
    with pytest.raises(FileNotFoundError):
        arrays.check_archive(tmp_path / "nothing.keras")


def test_a_file_without_its_hash_is_read_unless_it_must_have_one(tmp_path):
    path, stream = tmp_path / "a.npz", io.BytesIO()
    np.savez(stream, x=np.arange(3))
    path.write_bytes(stream.getvalue())
    assert [*arrays.read_arrays(path)] == ["x"]
    with pytest.raises(arrays.ArrayError, match="does not end in its hash"):
        arrays.read_arrays(path, sealed=True)
