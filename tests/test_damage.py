"""Damaged and hostile files of our own: the same arrays, one error, or (of a cache) the same made anew.

A few hundred seeded mutations per kind of file; `-m every` flips every bit.
"""

import contextlib
import io
import json
import logging
import os
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from light_sernet_kd import arrays, evaluation, files, teachers
from light_sernet_kd.analysis import compare
from light_sernet_kd.corpora import Origin, Utterance, fetch
from light_sernet_kd.data import array_cache, feature_cache, signatures
from light_sernet_kd.data.run_folder import read_run
from light_sernet_kd.encoders import embedding_cache
from light_sernet_kd.errors import UserError

posix = pytest.mark.skipif(os.name != "posix", reason="named pipes")
CONTENT = {
    "ids": np.array(["u0", "ü1", "u2", "u3"]),
    "classes": np.array(["anger", "neutral"]),
    "folds": np.array(["a", "b"]),
    "logits": np.random.default_rng(0).normal(size=(2, 4, 2)).astype(np.float32),
    "card": np.array('{"made_by": "WavLM", "train_speakers": {"a": ["03"]}}'),
    "embeddings": np.random.default_rng(1).normal(size=(4, 3)).astype(np.float16),
}


# Mutations


def flipped_bits(content: bytes, count: int | None, *, seed: int = 0) -> Iterator[tuple[int, bytes]]:
    """Place and new value of single bytes with one bit flipped: `count` of all bits, or every one."""
    bits = np.arange(8 * len(content))
    if count is not None:
        bits = np.random.default_rng(seed).choice(bits, min(count, len(bits)), replace=False)
    for bit in bits.tolist():
        yield bit // 8, bytes([content[bit // 8] ^ (1 << bit % 8)])


def mutations(content: bytes, count: int, *, seed: int = 0) -> Iterator[bytes]:
    """Flipped bits, cuts at both ends, exchanged bytes, runs of one value and repeated parts."""
    random = np.random.default_rng(seed)
    for number in range(count):
        mutated = bytearray(content)
        first, second = sorted(random.integers(0, len(content), 2).tolist())
        kind = number % 6
        if kind == 0:
            mutated[first] ^= 1 << int(random.integers(8))
        elif kind == 1:
            del mutated[first:]
        elif kind == 2:
            del mutated[: first + 1]
        elif kind == 3:
            mutated[first], mutated[second] = mutated[second], mutated[first]
        elif kind == 4:
            mutated[first : first + 8] = bytes([int(random.integers(256))]) * len(mutated[first : first + 8])
        else:
            mutated[first:first] = mutated[first:second]
        yield bytes(mutated)


def changed(path: Path, content: bytes, flips: Iterator[tuple[int, bytes]]) -> Iterator[None]:
    """Yields with each flip in the file, which is not written anew: that takes longer than reading it."""
    path.write_bytes(content)
    with open(path, "r+b", buffering=0) as file:
        for place, value in flips:
            file.seek(place)
            file.write(value)
            yield
            file.seek(place)
            file.write(content[place : place + 1])


def as_npz(save: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    save(file, **CONTENT)
    return file.getvalue()


def ours(folder: Path) -> bytes:
    files.write_arrays(folder / "ours.npz", CONTENT)
    return (folder / "ours.npz").read_bytes()


def is_same(found: dict[str, np.ndarray]) -> bool:
    return set(found) == set(CONTENT) and all(
        found[name].dtype == array.dtype and np.array_equal(found[name], array)
        for name, array in CONTENT.items()
    )


def outcomes(read: Callable[[], bool], cases: Iterator[None]) -> Counter[str]:
    """How often reading gave the same, other arrays, or the error. Any other error goes on to pytest."""
    found: Counter[str] = Counter()
    for _ in cases:
        try:
            found["same" if read() else "another"] += 1
        except UserError as error:
            found[kind_of(error)] += 1
    return found


def kind_of(error: UserError) -> str:
    return "error" if len(str(error).splitlines()) == 1 else "error of several lines"


def seeds(first: int) -> pytest.MarkDecorator:
    """One seed in every run of the suite, twenty in the longer one."""
    longer = [pytest.param(seed, marks=pytest.mark.every) for seed in range(first + 1, first + 20)]
    return pytest.mark.parametrize("seed", [first, *longer])


# Archives of arrays


def teacher_is_same(path: Path) -> bool:
    found = teachers.read(path)
    assert found.embeddings is not None
    return (found.ids, found.classes, found.folds) == (
        *(tuple(CONTENT[name].tolist()) for name in ("ids", "classes", "folds")),
    ) and (
        found.card == json.loads(str(CONTENT["card"]))
        and np.array_equal(found.logits, CONTENT["logits"])
        and np.array_equal(found.embeddings, CONTENT["embeddings"][None])
    )


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "packed"])
@pytest.mark.parametrize("count", [600, pytest.param(None, marks=pytest.mark.every)])
def test_no_flipped_bit_of_a_teacher_by_others_is_read_wrong(tmp_path, save, count):
    """They have no hash of ours: what is compared is the CRC, and the length with the header."""
    content, path = as_npz(save), tmp_path / "teacher.npz"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = outcomes(
            lambda: teacher_is_same(path), changed(path, content, flipped_bits(content, count, seed=1))
        )
    assert found["another"] == 0
    # Times, versions and attributes of a ZIP's members change nothing.
    assert found["error"] > found["same"] > 0


@pytest.mark.parametrize("count", [300, pytest.param(None, marks=pytest.mark.every)])
def test_no_flipped_bit_of_a_file_with_a_hash_is_read_at_all(tmp_path, count):
    content, path = ours(tmp_path), tmp_path / "checkpoint.npz"
    found = outcomes(
        lambda: is_same(arrays.read_arrays(path, sealed=True)),
        changed(path, content, flipped_bits(content, count)),
    )
    assert set(found) == {"error"}


@pytest.mark.parametrize("kind", ["stored", "packed", "ours"])
def test_other_damage_of_an_archive_is_the_error_or_does_nothing(tmp_path, kind):
    save = {"stored": np.savez, "packed": np.savez_compressed}
    content = ours(tmp_path) if kind == "ours" else as_npz(save[kind])
    path = tmp_path / "teacher.npz"
    found: Counter[str] = Counter()
    for mutated in mutations(content, 90, seed=2):
        path.write_bytes(mutated)
        found += outcomes(lambda: teacher_is_same(path), iter([None]))
    assert found["another"] == 0
    assert found["error"] > 70


def test_arrays_are_read_as_numpy_reads_them(tmp_path):
    made = {
        "big": np.arange(6, dtype=">f8").reshape(2, 3),
        "columns": np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
        "empty": np.zeros((0, 3), np.float32),
        "one": np.array(7),
        "yes": np.array([True, False]),
        "bytes": np.array([b"ab", b"c"]),
        "words": np.array(["ä", "bc"], dtype=">U2"),
        "complex": np.array([1j]),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **made)
        found = arrays.read_arrays(tmp_path / "a.npz")
        assert list(found) == list(made)
        for name, array in made.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype.isnative
            assert found[name].dtype.kind == array.dtype.kind


def member(array: np.ndarray, **changes) -> bytes:
    """An `.npy` whose header has been changed by hand."""
    file = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(array) | changes
    text = repr(header).encode("latin-1") + b"\n"
    file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + array.tobytes())
    return file.getvalue()


def archive(path: Path, members: dict[str, bytes], *, method: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as file:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            file.writestr(name.removesuffix("#"), content)
    return path


NUMBERS = np.arange(6, dtype=np.float32)
NESTED = b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 4500 + b")" * 4500


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (member(NUMBERS, shape=(5,)), "has 24 bytes; expected float32 (5,)"),
        (member(NUMBERS, shape=(7,)), "has 24 bytes; expected float32 (7,)"),
        (member(NUMBERS, shape=(-6,)), "has the shape (-6,)"),
        (member(NUMBERS, shape=(True, 6)), "has the shape (True, 6)"),
        (member(NUMBERS, shape=(10**30, 0)), "is damaged"),
        (member(NUMBERS, shape=(0, 10**30)), "is damaged"),
        (member(NUMBERS[:0], shape=(10**12,), descr="<U0"), "has 0 bytes"),
        (member(NUMBERS, descr="|O"), "holds Python objects"),
        (member(NUMBERS, descr=[("a", "<f4")]), "holds neither numbers nor text"),
        (member(NUMBERS, descr="2f4"), "holds neither numbers nor text"),
        (member(NUMBERS, descr="<M8[s]"), "holds neither numbers nor text"),
        (member(NUMBERS, descr="<f5"), "is damaged"),
        (member(NUMBERS, fortran_order=1), "has the shape"),
        (member(np.array([0x110000], np.uint32), descr="<U1"), "holds what is no character"),
        (NESTED, "the header of x cannot be read"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{}", "the header of x has 2,147,483,648 bytes"),
        (b"\x93NUMPY\x09\x00" + bytes(120), "is no array of NumPy"),
        (b"\x93NUM", ""),
    ],
)
def test_headers_that_cannot_be_are_one_error(tmp_path, content, why):
    path = archive(tmp_path / "a.npz", {"x.npy": content})
    if not why:  # NumPy takes it for bytes
        assert arrays.read_arrays(path)["x"].tobytes() == content
        return
    with pytest.raises(arrays.ArrayError) as caught:
        arrays.read_arrays(path)
    assert str(caught.value).startswith(f"{path} ")
    assert why in str(caught.value)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def patched(path: Path, **fields: int) -> Path:
    """The archive of one member with other fields in its list of members."""
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    places = {"flags": (8, "<H"), "method": (10, "<H"), "packed": (20, "<I"), "unpacked": (24, "<I")}
    for name, value in fields.items():
        place, form = places[name]
        struct.pack_into(form, content, entry + place, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"flags": 0x1}, "is locked by a password (x.npy)"),
        ({"flags": 0x20}, "is damaged"),
        ({"flags": 0x40}, "is damaged"),
        ({"method": 9}, "packed by Deflate64"),
        ({"method": 12}, "packed by bzip2"),
        ({"method": 98}, "packed by PPMd"),
        ({"method": 77}, "packed by method 77"),
        ({"unpacked": 2**31}, "152 bytes cannot hold 2,147,483,648"),
        ({"unpacked": 10}, "152 bytes cannot hold 10"),
        ({"packed": 10**6, "unpacked": 10**6}, "its members overlap"),
    ],
)
def test_members_that_cannot_be_read_are_one_error(tmp_path, fields, why):
    path = patched(archive(tmp_path / "a.npz", {"x.npy": npy(NUMBERS)}), **fields)
    with pytest.raises(arrays.ArrayError) as caught:
        arrays.read_arrays(path)
    assert why in str(caught.value)


def test_a_name_that_stands_twice_is_refused(tmp_path):
    for members in ({"x.npy": npy(NUMBERS), "x.npy#": npy(NUMBERS)}, {"x.npy": npy(NUMBERS), "x": b"1"}):
        with pytest.raises(arrays.ArrayError, match="it holds x twice"):
            arrays.read_arrays(archive(tmp_path / "a.npz", members))


def test_a_list_of_members_that_lost_one_is_refused(tmp_path):
    path = archive(tmp_path / "a.npz", {"x.npy": npy(NUMBERS), "y.npy": npy(NUMBERS)})
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\1\2")
    # the first one's comment swallows the second
    first = content.index(b"PK\1\2")
    struct.pack_into("<H", content, first + 32, content.index(b"PK\5\6") - second)
    path.write_bytes(content)
    with pytest.raises(arrays.ArrayError, match="its list of members is not whole"):
        arrays.read_arrays(path)


def bomb(path: Path, size: int, *, told: int | None = None) -> Path:
    """An `.npz` of a few megabytes whose logits, zeros, unpack to `size` bytes."""
    part = 2**26
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(part)) + packer.flush(zlib.Z_FULL_FLUSH)
    # A flushed block refers to nothing before it, so that it may follow itself.
    content = block * (size // part) + packer.flush()
    name = b"logits.npy"
    told = size if told is None else told
    fields = struct.pack("<HHHHIIIH", 0, 8, 0, 0x21, 0, len(content), told, len(name))
    local = b"PK\3\4" + struct.pack("<H", 20) + fields + struct.pack("<H", 0)
    start = len(local) + len(name) + len(content)
    entry = b"PK\1\2" + struct.pack("<HH", 20, 20) + fields
    entry += struct.pack("<HHHHII", 0, 0, 0, 0, 0, 0) + name
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), start, 0)
    path.write_bytes(local + name + content + entry + end)
    return path


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (2**32 - 2**26, r"unpacks to 4,228 MB from 4\.[0-9] MB; at most 537 MB are read"),
        (10**6, "is damaged"),  # it lies about what it unpacks to
    ],
)
def test_a_bomb_is_refused_within_little_memory_and_the_limit_is_told(tmp_path, told, why):
    path = bomb(tmp_path / "teacher.npz", 2**32 - 2**26, told=told)
    with zipfile.ZipFile(path) as file:
        assert file.infolist()[0].file_size == told
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=why):
            teachers.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


@posix
@pytest.mark.parametrize(
    "read", [arrays.read_arrays, teachers.read, files.read_json], ids=lambda f: f.__name__
)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, read):
    pipe = tmp_path / "teacher.csv"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(UserError, match="is a pipe or a device, not a file"):
            read(path)
    with pytest.raises(UserError, match="is a folder, not a file"):
        read(tmp_path)


def test_what_an_array_must_be_is_compared(tmp_path):
    path = tmp_path / "a.npz"
    files.write_arrays(path, {"x": np.zeros((2, 3), np.float32), "n": np.array([np.nan])})
    for expected, why in (
        ({"y": arrays.Expected()}, "lacks y; it holds x, n"),
        ({"x": arrays.Expected((None, 4))}, r"x is float32 \(2, 3\); expected numbers \(None, 4\)"),
        ({"x": arrays.Expected(kinds="U")}, "expected text"),
        ({"n": arrays.Expected(finite=True)}, "n holds numbers that are not finite"),
    ):
        with pytest.raises(arrays.ArrayError, match=why):
            arrays.read_arrays(path, expected=expected)
    assert set(arrays.read_arrays(path, expected={"x": arrays.Expected((None, 3), "f")})) == {"x", "n"}


# Caches: made anew, and said so


def said(caplog) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


def check_cache(caplog, path: Path, cases: Iterator[bytes], read: Callable[[], bool]) -> None:
    """Whatever the file holds, the cache gives what it gave, is whole again, and a line is said."""
    content = path.read_bytes()
    caplog.set_level(logging.WARNING)
    for mutated in cases:
        path.write_bytes(mutated)
        assert read()
        lines = said(caplog)
        if mutated == content:
            assert not lines
            continue
        assert len(lines) == 1, mutated[:80]
        assert str(path) in lines[0]
        assert lines[0].endswith(": it is made anew.")
        assert read()
        assert not said(caplog)


@pytest.fixture
def recordings(tmp_path) -> list[Utterance]:
    found = []
    for name in ("a", "b"):
        noise = np.random.default_rng(ord(name)).uniform(-0.5, 0.5, 400)
        soundfile.write(tmp_path / f"{name}.wav", noise, 16_000, "PCM_16")
        found.append(Utterance(name, tmp_path / f"{name}.wav", "fear", name))
    return found


PRINTS = {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    "seed", [3, *(pytest.param(seed, marks=pytest.mark.every) for seed in range(10, 30))]
)
def test_a_damaged_cache_of_features_or_recordings_is_made_anew(tmp_path, recordings, caplog, seed):
    cache = tmp_path / "cache"

    def read() -> np.ndarray:
        return feature_cache.recordings(recordings, PRINTS, samples=300, cache_folder=cache, memory_limit=0)

    before = np.array(read())
    (path,) = cache.iterdir()
    header = [path.read_bytes()[:place] + bytes([value]) + path.read_bytes()[place + 1 :]
              for place in (6, 7, 8, 9, 20, 60) for value in (0, 1, 40, 255)]  # fmt: skip
    cases = [*header, *mutations(path.read_bytes(), 36, seed=seed)]
    check_cache(caplog, path, iter(cases), lambda: bool((read() == before).all()))


@pytest.mark.parametrize(
    "seed", [4, *(pytest.param(seed, marks=pytest.mark.every) for seed in range(30, 50))]
)
def test_a_damaged_cache_of_signatures_is_made_anew(tmp_path, recordings, caplog, seed):
    cache = tmp_path / "cache"

    def read() -> list[np.ndarray]:
        return list(signatures.measure(recordings, PRINTS, cache)[:2])

    before = read()
    (path,) = cache.iterdir()
    check_cache(
        caplog,
        path,
        mutations(path.read_bytes(), 36, seed=seed),
        lambda: all(map(np.array_equal, read(), before)),
    )


@pytest.mark.parametrize("suffix", ["npy", "json"])
@pytest.mark.parametrize(
    "seed", [5, *(pytest.param(seed, marks=pytest.mark.every) for seed in range(50, 70))]
)
def test_a_damaged_cache_of_embeddings_is_made_anew(tmp_path, caplog, suffix, seed):
    encoder = embedding_cache.Encoder(
        "toy", {"toy": 1}, (3,), lambda items: [np.outer(each, [1.0, 2.0, 3.0]) for each in items]
    )
    items = {f"{name:064x}": np.arange(1.0, 2 + name) for name in range(12)}  # of 1 to 12 rows

    def read() -> list[np.ndarray]:
        found = embedding_cache.embed_by_key(
            list(items),
            lambda missing: iter([(list(missing), [items[name] for name in missing], len(missing))]),
            encoder,
            cache=tmp_path,
        )
        return [np.array(each) for each in found]

    before = read()
    (path,) = (each for each in tmp_path.rglob(f"*.{suffix}") if each.name != "encoder.json")
    content = path.read_bytes()
    caplog.set_level(logging.WARNING)
    for mutated in mutations(content, 36, seed=seed):
        path.write_bytes(mutated)
        assert all(map(np.array_equal, read(), before))
        # A change of spaces leaves an index as good as it was.
        assert len(said(caplog)) == 1 or suffix == "json" or mutated == content
        assert all(map(np.array_equal, read(), before))
        assert not said(caplog)


@pytest.mark.parametrize("is_index_whole", [True, False])
def test_a_block_of_embeddings_without_its_hash_is_made_anew(tmp_path, caplog, is_index_whole):
    encoder = embedding_cache.Encoder("toy", {}, (2,), lambda items: [np.full((n, 2), 5.0) for n in items])
    folder = encoder.folder(tmp_path)
    folder.mkdir(parents=True)
    np.save(folder / "block.npy", np.ones((3, 2), np.float32))
    index = {"recordings": {"x": 1, "y": 2}}
    seal = {"sha256": embedding_cache._index_digest(index["recordings"])} if is_index_whole else {}
    files.write_json(folder / "block.json", index | seal)
    found = embedding_cache.embed_by_key(
        ["y", "x"], lambda missing: iter([(["y", "x"], [2, 1], 2)]), encoder, cache=tmp_path
    )
    assert [each.shape for each in found] == [(2, 2), (1, 2)]
    assert all((each == 5).all() for each in found)
    assert len(said(caplog)) == 1


def test_a_large_file_that_is_mapped_is_not_hashed_but_its_size_and_header_are_compared(tmp_path):
    path, rows = tmp_path / "a.npy", np.arange(12, dtype=np.float32).reshape(4, 3)
    array_cache.write_blocks(path, [rows], rows.shape, rows.dtype)
    content = bytearray(path.read_bytes())
    content[130] ^= 1
    path.write_bytes(content)
    facts = {"shape": (4, None), "dtype": rows.dtype}
    with pytest.raises(arrays.ArrayError, match="another hash"):
        arrays.open_mapped(path, **facts)
    assert arrays.open_mapped(path, **facts, most_bytes=100).shape == (4, 3)
    path.write_bytes(content[:-1])
    with pytest.raises(arrays.ArrayError, match="is damaged"):
        arrays.open_mapped(path, **facts, most_bytes=100)


# JSON


def run_folder(folder: Path) -> Path:
    metrics = {
        "protocol": "loso", "stamps": ["few"], "warnings": ["odd"], "corpus": "toy", "synthetic": False,
        "folds": [{"name": "a"}],
        "skipped": [{"id": "u9", "reason": "empty"}], "seed": 1,
        "student": {"name": "light_sernet", "parameters": 1000}, "pooled": {"ua": 1.0, "wa": 1.0},
        "pooled_last_epoch": {"ua": 0.4}, "ci95": {"ua": [0.4, 0.6], "wa": [0.5, 0.7]},
        "calibration": {"folds": [{"name": "a", "temperature": 1.5}]},
        "export": {"rows": [{"precision": "float32", "bytes": 4000}]},
    }  # fmt: skip
    files.write_json(folder / "metrics.json", metrics)
    files.write_json(folder / "config.json", {"settings": {"distillation": "pure", "protocol": "loso"}})
    labels = np.array([0, 1])
    evaluation.write_predictions(
        folder / "predictions.csv",
        evaluation.Predictions(
            ("a", "b"), ("u0", "u1"), ("a", "a"), labels, labels, np.eye(2, dtype=np.float32)
        ),
    )
    return folder


@pytest.mark.parametrize("name", ["metrics.json", "config.json"])
@pytest.mark.parametrize(
    "seed", [6, *(pytest.param(seed, marks=pytest.mark.every) for seed in range(70, 90))]
)
def test_a_damaged_result_is_one_line_or_can_be_compared(tmp_path, name, seed):
    folder = run_folder(tmp_path)
    content = (folder / name).read_bytes()
    found: Counter[str] = Counter()
    for mutated in mutations(content, 120, seed=seed):
        (folder / name).write_bytes(mutated)
        try:
            compared = compare.compare([read_run(folder)])
            compare.table(compared), compare.notes(compared)
            found["read"] += 1
        except UserError as error:
            found[kind_of(error)] += 1
    assert set(found) == {"read", "error"}
    assert found["error"] > 60


SCORES = {"ua": 0.5, "wa": 0.6, "macro_f1": 0.4, "weighted_f1": 0.5, "recall_per_class": {"a": None}}
STEPS = {
    "read_fold": {
        "name": "03", "test_speakers": ["03"], "validation_speakers": ["08"], "best_epoch": 2,
        "best_epochs": [2], "epochs": 3,
        "seconds": 8.08, **SCORES, "count": 49, "last_epoch": {**SCORES, "count": 49},
        "files": {"student.keras": "ab"},
    },
    "read_final": {
        "final_epochs": 3, "temperature": 1.5, "scores": {"float32": {"ua": 0.5}}, "files": {},
        "rows": [
            {
                "precision": name, "file": f"{name}.tflite", "bytes": 9, "sha256": "ab",
                "max_probability_difference": 1e-6,
            }
            for name in ("float32", "int8")
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_what_a_run_goes_on_with_has_what_it_needs_or_is_refused(tmp_path, name):
    from light_sernet_kd.data import run_folder

    read, path = getattr(run_folder, name), tmp_path / "step.json"
    files.write_json(path, STEPS[name])
    assert read(path) == STEPS[name]
    content = path.read_bytes()
    for mutated in mutations(content, 90, seed=8):
        path.write_bytes(mutated)
        with contextlib.suppress(files.JsonError, ValueError):
            assert set(read(path)) >= set(STEPS[name])
    for key in STEPS[name]:
        files.write_json(path, {other: value for other, value in STEPS[name].items() if other != key})
        with pytest.raises(files.JsonError, match=f"it lacks {key}"):
            read(path)


def test_a_file_that_a_killed_process_added_to_a_step_is_not_there(tmp_path, monkeypatch):
    from light_sernet_kd.data import run_folder

    step = run_folder.Step(tmp_path, "fold.json")
    step.finish({"name": "03"})
    first, other = {"selected": np.zeros((2, 3))}, {"selected": np.ones((2, 3))}

    def killed_add():
        """Killed between the file and its hash."""
        with monkeypatch.context() as patch:
            patch.setattr(run_folder, "sha256", None)
            with pytest.raises(TypeError, match="not callable"):
                step.add("a.npz", other)
        assert (tmp_path / "a.npz").exists()
        assert not step.has("a.npz")

    killed_add()
    step.add("a.npz", first)
    assert step.has("a.npz")
    assert not step.rows("a.npz", rows=2)["selected"].any()
    (tmp_path / "a.npz").unlink()  # a user's, of one that was damaged
    assert not step.has("a.npz")
    killed_add()
    step.add("a.npz", other)
    assert step.rows("a.npz", rows=2)["selected"].all()
    assert json.loads((tmp_path / "fold.json").read_text())["name"] == "03"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ("1" * 5000, "a number of 5000 digits"),
        ("NaN", "NaN is no finite number"),
        ("[-Infinity]", "no finite number"),
        ("1e999", "1e999 is no finite number"),
        ('"\xff"'.encode("latin-1"), "codec can't decode"),
        (b"\0", "Expecting value"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_none_is_one_error(tmp_path, text, why):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(files.JsonError, match=why) as caught:
        files.read_json(path)
    assert len(str(caught.value).splitlines()) == 1
    card = np.array(path.read_bytes().decode("latin-1") or "x")
    files.write_arrays(tmp_path / "t.npz", CONTENT | {"card": card})
    with pytest.raises(UserError, match="its card is not a JSON object"):
        teachers.read(tmp_path / "t.npz")


def test_json_is_compared_with_what_is_expected(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"n": 3, "x": 0.5, "none": None, "rows": [{"a": 1}], "by_name": {"k": "v"}})
    value = json.loads(path.read_text())
    for expected in (
        {"n": int, "x": float, "absent?": int},
        {"n": float, "none": (float, None), "rows": [{"a": int}], "by_name": {str: str}},
        dict,
        None,
    ):
        assert files.read_json(path, expected) == value
    for expected, why in (
        ({"m": int}, "it lacks m"),
        ({"x": int}, r"it\.x is not a whole number"),
        ({"n": str}, r"it\.n is not a text"),
        ({"x?": str}, r"it\.x is not a text"),
        ({"none": (float, str)}, r"it\.none is not a number"),
        ({"rows": [{"a": str}]}, r"it\.rows\[0\]\.a is not a text"),
        ({"by_name": {str: float}}, r"it\.by_name\.k is not a number"),
        (list, "it is not a list"),
    ):
        with pytest.raises(files.JsonError, match=why):
            files.read_json(path, expected)
    with pytest.raises(files.JsonError, match="bytes; at most 10 are read"):
        files.read_json(path, most_bytes=10)
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "none.json")


def test_a_vocabulary_that_is_none_is_refused_unread(tmp_path):
    from light_sernet_kd.encoders import text

    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\na\n")
    assert text._vocabulary_lines(path) == ("[PAD]", "a")
    with open(path, "wb") as file:
        file.truncate(10**12)
    with pytest.raises(UserError, match="has 1,000,000,000,000 bytes; at most 100,000,000 are read"):
        text._vocabulary_lines(path)
    if os.name == "posix":
        with pytest.raises(UserError, match="is a pipe or a device"):
            text._vocabulary_lines(Path("/dev/zero"))


# Archives of corpora


RECORDINGS = {f"wav/{name}.wav": bytes(range(256)) * 3 for name in ("03a01Wb", "08a01Fb")}
METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflate": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "seed", [7, *(pytest.param(seed, marks=pytest.mark.every) for seed in range(90, 110))]
)
def test_a_damaged_corpus_is_unpacked_as_it_was_or_refused_and_removed(tmp_path, method, seed):
    members = RECORDINGS | {"erkennung.txt": b"text" * 40}
    content = archive(tmp_path / "a.zip", members, method=METHODS[method]).read_bytes()
    (tmp_path / "a.zip").unlink()
    origin = Origin("CC0", "https://page", "wav/", archive="https://page/a.zip")
    found: Counter[str] = Counter()
    for mutated in mutations(content, 36, seed=seed):
        data = tmp_path / "data"
        data.mkdir()
        target = data / "EMO-DB"
        (data / "EMO-DB.zip").write_bytes(mutated)
        try:
            fetch._unpack("EMO-DB", data / "EMO-DB.zip", target, origin)
        except UserError as error:
            found[kind_of(error)] += 1
        else:
            unpacked = [path for path in target.rglob("*") if path.is_file()]
            assert {path.relative_to(target).as_posix(): path.read_bytes() for path in unpacked} == members
            (data / "EMO-DB.zip").unlink()
            for path in sorted(target.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            target.rmdir()
            found["same"] += 1
        assert list(data.iterdir()) == [], "neither the archive nor half a corpus is left"
        data.rmdir()
    assert set(found) <= {"same", "error"}
    assert found["error"] > found["same"]
