"""From recordings to batches: features are computed once, and every batch is the one that it should be."""

import dataclasses
import functools
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from scipy.special import softmax

from light_sernet_kd import audio, features, files
from light_sernet_kd.audio import augment
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data import array_cache, feature_cache
from light_sernet_kd.data import augmenter as augmenting
from light_sernet_kd.data import batches as batching
from light_sernet_kd.data.feature_cache import Cache, Reader
from light_sernet_kd.data.host_batches import host_batches
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.augmentations import AUGMENTATIONS
from light_sernet_kd.registries.front_ends import FRONT_ENDS, LSN

RATE, SAMPLES = 16_000, 8_000
FORMS = [
    ("lsn", "mfcc"),
    ("lsn", "mel_spectrogram"),
    ("lsn", "spectrogram"),
    ("cubic", "mfcc"),
    ("cubic", "mel_spectrogram"),
    ("vggish", "mel_spectrogram"),
]


def noise(seed: int, samples: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).clip(-1, 1)


def recorded(folder, lengths) -> tuple[Utterance, ...]:
    """One recording of noise per length in samples."""
    made = []
    for number, length in enumerate(lengths):
        path = folder / f"u{number:02d}.wav"
        soundfile.write(path, noise(number, length), RATE, subtype="FLOAT")
        made.append(Utterance(path.stem, path, ("anger", "fear")[number % 2], f"s{number % 3}"))
    return tuple(made)


@pytest.fixture
def utterances(tmp_path) -> tuple[Utterance, ...]:
    return recorded(tmp_path, (SAMPLES, 5000, 12_001, 3000, 9000))


class Counting:
    """Reads as the pipeline does, and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return feature_cache.waveform_blocks(*args, **kwargs)


def rows_of(
    utterances, folder, *, cache="disk", fingerprints=None, read=feature_cache.waveform_blocks,
    reader="soundfile", memory_limit=2**30, **changes,
):  # fmt: skip
    form = {"front_end": "lsn", "input_type": "mfcc", "samples": SAMPLES} | changes
    return feature_cache.features(
        utterances,
        fingerprints or audio.fingerprints(utterances),
        cache=Cache(folder / "cache", cache, memory_limit),
        reader=Reader(reader, read),
        **form,
    )


# Waveforms


@pytest.mark.parametrize("front_end", ["lsn", "cubic", "vggish"])
def test_waveforms_are_the_recordings_cut_or_padded_as_the_front_end_pads(utterances, front_end):
    clips = feature_cache.waveforms(utterances, samples=SAMPLES, front_end=front_end)
    assert (clips.shape, clips.dtype) == ((5, SAMPLES), np.float32)
    np.testing.assert_array_equal(clips[0], noise(0, SAMPLES).astype(np.float32))
    short = noise(1, 5000).astype(np.float32)
    start = {"lsn": 1500}.get(front_end, 0)
    np.testing.assert_array_equal(clips[1, start : start + 5000], short)
    assert np.count_nonzero(clips[1]) == np.count_nonzero(short)
    np.testing.assert_array_equal(clips[2], noise(2, 12_001).astype(np.float32)[2000:10_000])


def test_every_recording_that_cannot_be_used_is_listed_at_once(utterances):
    utterances[1].path.write_bytes(b"")
    utterances[3].path.unlink()
    utterances[4].path.write_text("not audio")
    with pytest.raises(UserError) as caught:
        feature_cache.waveforms(utterances, samples=SAMPLES, front_end="lsn")
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 5 recordings cannot be used:"
    assert [next(u.id for u in utterances if str(u.path) in line) for line in lines[1:4]] == [
        "u01", "u03", "u04",
    ]  # fmt: skip
    assert lines[4:] == ["  Mend or remove them, or leave them out with --skip-bad."]


# Fingerprints


def test_fingerprints_are_those_of_the_content(utterances):
    utterances[2].path.write_bytes(utterances[0].path.read_bytes())
    found = audio.fingerprints(utterances)
    assert list(found) == [utterance.id for utterance in utterances]
    assert found["u00"] == found["u02"]
    assert len(set(found.values())) == 4


def test_where_a_file_cannot_be_opened_every_unusable_one_is_listed(utterances):
    # Else a user who mended the missing ones would be told of the broken ones a run later.
    utterances[1].path.unlink()
    utterances[3].path.write_text("not audio")
    with pytest.raises(UserError) as caught:
        audio.fingerprints(utterances)
    message = str(caught.value)
    assert message.startswith("2 of 5 recordings cannot be used:\n")
    assert "u01.wav" in message
    assert "u03.wav" in message
    assert message.endswith("leave them out with --skip-bad.")


# Features and their cache


@pytest.mark.parametrize(("front_end", "input_type"), FORMS)
def test_features_are_the_same_from_disk_from_memory_and_computed_per_batch(
    tmp_path, utterances, front_end, input_type
):
    form = {"front_end": front_end, "input_type": input_type}
    disk, ram, none = (
        rows_of(utterances, tmp_path, cache=cache, **form) for cache in ("disk", "ram", "none")
    )
    expected = (5, *features.feature_shape(front_end, input_type, SAMPLES))
    assert disk.shape == ram.shape == none.shape == expected
    assert len(disk) == len(ram) == len(none) == 5
    assert disk.dtype == ram.dtype == np.float32
    assert len(np.unique(ram)) > 100
    np.testing.assert_array_equal(disk, ram)
    for rows in ([0, 1, 2, 3, 4], [3, 1], [2]):
        batch = none[np.array(rows)]
        assert batch.dtype == np.float32
        np.testing.assert_allclose(batch, ram[rows], rtol=1e-5, atol=2e-5)


def test_more_utterances_than_a_batch_keep_their_order(tmp_path, utterances, monkeypatch):
    whole = rows_of(utterances, tmp_path, cache="ram")
    monkeypatch.setattr(feature_cache, "BATCH", 2)
    np.testing.assert_allclose(rows_of(utterances, tmp_path, cache="ram"), whole, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("cache", ["disk", "ram", "none"])
def test_recordings_are_read_once(tmp_path, utterances, cache):
    read = Counting()
    rows = rows_of(utterances, tmp_path, cache=cache, read=read)
    for _ in range(3):
        rows[np.array([0, 1])]
    assert read.calls == 1


def test_a_later_run_takes_the_features_from_disk(tmp_path, utterances):
    first = np.array(rows_of(utterances, tmp_path))
    read = Counting()
    again = rows_of(utterances, tmp_path, read=read)
    assert read.calls == 0
    assert isinstance(again, np.memmap)
    np.testing.assert_array_equal(again, first)


def test_the_features_on_disk_cannot_be_changed_by_who_reads_them(tmp_path, utterances):
    rows = rows_of(utterances, tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 8001},
        {"input_type": "mel_spectrogram"},
        {"front_end": "cubic"},
        {"front_end": "cubic", "input_type": "mel_spectrogram"},
    ],
)
def test_other_settings_have_another_cache(tmp_path, utterances, change):
    before = np.array(rows_of(utterances, tmp_path))
    read = Counting()
    rows_of(utterances, tmp_path, read=read, **change)
    assert read.calls == 1
    unread = Counting()
    np.testing.assert_array_equal(rows_of(utterances, tmp_path, read=unread), before)
    assert unread.calls == 0


@pytest.mark.parametrize("changed", ["its settings", "its code"])
def test_a_front_end_that_changed_has_another_cache(tmp_path, utterances, monkeypatch, changed):
    rows_of(utterances, tmp_path)
    if changed == "its code":
        monkeypatch.setattr(feature_cache, "FEATURE_VERSION", feature_cache.FEATURE_VERSION + 1)
    else:
        other = dataclasses.replace(LSN, lowest_hz=100.0)
        changed = dataclasses.replace(FRONT_ENDS["lsn"], spectra={"mfcc": other})
        monkeypatch.setitem(FRONT_ENDS, "lsn", changed)
    read = Counting()
    rows_of(utterances, tmp_path, read=read)
    assert read.calls == 1


def test_a_recording_that_changed_is_read_anew(tmp_path, utterances):
    before = np.array(rows_of(utterances, tmp_path))
    soundfile.write(utterances[1].path, noise(99, 5000), RATE, subtype="FLOAT")
    after = rows_of(utterances, tmp_path)
    np.testing.assert_array_equal(after[[0, 2, 3, 4]], before[[0, 2, 3, 4]])
    assert np.abs(after[1] - before[1]).max() > 0.1


def test_other_utterances_or_another_order_have_another_cache(tmp_path, utterances):
    before = np.array(rows_of(utterances, tmp_path))
    np.testing.assert_allclose(rows_of(utterances[::-1], tmp_path), before[::-1], rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(rows_of(utterances[1:4], tmp_path), before[1:4], rtol=1e-5, atol=2e-5)


def test_the_cache_does_not_depend_on_where_the_recordings_lie(tmp_path, utterances):
    rows_of(utterances, tmp_path)
    (tmp_path / "moved").mkdir()
    moved = []
    for utterance in utterances:
        path = tmp_path / "moved" / utterance.path.name
        os.replace(utterance.path, path)
        moved.append(Utterance(f"other-{utterance.id}", path, utterance.emotion, utterance.speaker))
    read = Counting()
    rows_of(moved, tmp_path, read=read)
    assert read.calls == 0


@pytest.mark.parametrize("left", [0, 10, 200, -4])
def test_a_cache_file_that_was_cut_short_is_computed_anew(tmp_path, utterances, left):
    before = np.array(rows_of(utterances, tmp_path))
    (path,) = (tmp_path / "cache").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:left])
    read = Counting()
    np.testing.assert_array_equal(rows_of(utterances, tmp_path, read=read), before)
    assert read.calls == 1
    assert path.read_bytes() == content


def test_recordings_that_cannot_be_used_leave_no_cache(tmp_path, utterances):
    utterances[2].path.write_text("not audio")
    with pytest.raises(UserError, match="1 of 5 recordings cannot be used"):
        rows_of(utterances, tmp_path)
    assert not list(tmp_path.glob("cache/*"))


# What is held in memory


def test_blocks_are_the_waveforms_in_their_order(utterances, monkeypatch):
    whole = feature_cache.waveforms(utterances, samples=SAMPLES, front_end="cubic")
    monkeypatch.setattr(feature_cache, "BATCH", 2)
    blocks = list(feature_cache.waveform_blocks(utterances, samples=SAMPLES, front_end="cubic"))
    assert [len(block) for block in blocks] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_waveforms_beyond_the_limit_lie_in_a_file_that_later_runs_use(tmp_path, utterances):
    held = rows_of(utterances, tmp_path, cache="none", memory_limit=5 * SAMPLES * 4)
    assert not list(tmp_path.glob("cache/*"))
    read = Counting()
    for _ in range(2):
        mapped = rows_of(utterances, tmp_path, cache="none", memory_limit=5 * SAMPLES * 4 - 1, read=read)
        assert isinstance(mapped.clips, np.memmap)
        np.testing.assert_array_equal(mapped.clips, held.clips)
        np.testing.assert_array_equal(mapped[np.array([1, 3])], held[np.array([1, 3])])
    assert read.calls == 1
    rows_of(utterances, tmp_path, cache="none", memory_limit=0, front_end="cubic")
    assert len(list(tmp_path.glob("cache/clips-*.npy"))) == 2, "the other front end pads otherwise"


GROWTH = """
import sys, time
from pathlib import Path
import numpy as np
from light_sernet_kd import audio, features
from light_sernet_kd.data import feature_cache
from light_sernet_kd.corpora import Utterance

SHAPE = features.feature_shape("lsn", "spectrogram", 32_000)

class SlowFrontEnd:
    def predict_on_batch(self, clips):
        time.sleep(0.02)
        return np.zeros((len(clips), *SHAPE), np.float32) + clips[:, :1, None, None]

# Recordings come faster than they are computed, so what is not held back piles up.
audio.read_all = lambda paths: (np.full(32_000, int(path.stem), np.float32) for path in paths)
feature_cache.front_end_of = lambda *form: SlowFrontEnd()

def peak_mib():
    # Not getrusage: what that gives begins with the peak of the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024

def compute(count, cache):
    chosen = [Utterance(str(i), Path(f"{i}.wav"), "fear", "s") for i in range(count)]
    return feature_cache.features(
        chosen, {u.id: u.id for u in chosen}, front_end="lsn", input_type="spectrogram", samples=32_000,
        cache=feature_cache.Cache(Path(sys.argv[1]) / cache, cache, 2**40 if cache == "ram" else 0),
    )
compute(4 * feature_cache.BATCH, "disk")
for cache in ("none", "disk", "ram"):
    before = peak_mib()
    rows = compute(12 * feature_cache.BATCH, cache)
    print(peak_mib() - before)
    if cache == "disk":
        assert np.array_equal(rows[:, 0, 0, 0], np.arange(12 * feature_cache.BATCH))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_peak_memory_does_not_grow_with_the_corpus_but_where_asked_for(tmp_path):
    command = [sys.executable, "-c", GROWTH, str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    none, disk, ram = map(float, done.stdout.split())
    # 768 clips are 94 MiB of waveforms and 182 MiB of features; 256 clips, which came before, a third of it.
    assert none < 20
    assert disk < 20
    assert ram > 100, "else this measures nothing"
    assert len(list(tmp_path.glob("*/*.npy"))) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked")
def test_a_killed_run_leaves_nothing_under_the_name_and_the_next_run_removes_the_rest(tmp_path, utterances):
    folder = tmp_path / "cache"
    final = folder / f"lsn-mfcc-{'0' * 32}.npy"

    def blocks():
        yield np.zeros((1, 4), np.float32)
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        array_cache.write_blocks(final, blocks(), (2, 4), np.dtype(np.float32))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert left != final

    rows_of(utterances, tmp_path)
    assert left.exists(), "another process may just have begun it"
    old = time.time() - 2 * array_cache.YOUNG_SECONDS
    os.utime(left, (old, old))
    rows_of(utterances[1:], tmp_path)
    assert not left.exists()
    assert len(list(folder.iterdir())) == 2


def test_what_another_process_still_writes_is_left_alone(tmp_path, utterances):
    folder = tmp_path / "cache"
    folder.mkdir()
    mine, others = folder / ".cubic-mfcc-0.x1y2z3_4.npy", folder / ".notes.npy"
    old = time.time() - 2 * array_cache.YOUNG_SECONDS
    mine.touch()
    with files.hold(mine):
        others.touch()
        for path in (mine, others):
            os.utime(path, (old, old))
        rows_of(utterances, tmp_path)
        assert mine.exists()
    rows_of(utterances[1:], tmp_path)
    assert not mine.exists()
    assert others.exists(), "no name that a writer would have drawn"


def test_the_files_are_those_that_numpy_writes_and_a_hash(tmp_path):
    rows = np.arange(24, dtype=np.float32).reshape(6, 4)
    array_cache.write_blocks(tmp_path / "ours.npy", [rows[:4], rows[4:]], rows.shape, rows.dtype)
    np.save(tmp_path / "numpys.npy", rows)
    whole = (tmp_path / "numpys.npy").read_bytes()
    digest = hashlib.sha256(whole).hexdigest().encode()
    assert (tmp_path / "ours.npy").read_bytes() == whole + b"sha256:" + digest
    np.testing.assert_array_equal(np.load(tmp_path / "ours.npy"), rows)
    np.testing.assert_array_equal(np.load(tmp_path / "ours.npy", mmap_mode="r"), rows)


# Batches

COUNT, CLASSES = 23, 3
# Each feature, label and logit tells whose it is.
ROWS = (np.arange(COUNT, dtype=np.float32)[:, None, None, None] + np.zeros((1, 4, 2, 1), np.float32)) * 10
LABELS = (np.arange(COUNT) % CLASSES).astype(np.int32)
LOGITS = np.arange(COUNT, dtype=np.float32)[:, None] * 100 + np.arange(CLASSES, dtype=np.float32)
TRAIN = [i for i in range(COUNT) if i % 5 != 0]  # 18 of 23
STEPS = 5  # of 4, the last of 2


def batches(
    epochs, *, first_epoch=0, seed=7, teacher=LOGITS, indices=TRAIN, rows=ROWS, batch_size=4,
    embeddings=None, augmentation=None, states=None, soft_labels=None,
):  # fmt: skip
    """The batches of the first `epochs` epochs, as NumPy."""
    made = batching.batches(
        batching.Examples(rows, LABELS, ("anger", "fear", "joy"), soft_labels), indices,
        batch_size=batch_size, seed=seed, first_epoch=first_epoch, augmenter=augmentation,
        teacher=batching.TeacherOutputs(teacher, embeddings, states),
    )  # fmt: skip
    steps = -(-len(indices) // batch_size)
    return [
        list(made.take(steps * epochs).as_numpy_iterator())[n * steps : (n + 1) * steps]
        for n in range(epochs)
    ]


def visited(epoch) -> list[int]:
    """The utterances of an epoch in their order."""
    return [round(float(row[0, 0, 0])) // 10 for inputs, _ in epoch for row in inputs["features"]]


def test_every_epoch_visits_each_training_utterance_once():
    for epoch in batches(3):
        assert sorted(visited(epoch)) == TRAIN


def test_the_last_batch_holds_what_is_left():
    for epoch in batches(2):
        assert [len(labels) for _, labels in epoch] == [4, 4, 4, 4, 2]


def test_labels_and_teacher_rows_are_those_of_the_features():
    for inputs, labels in itertools.chain.from_iterable(batches(2)):
        whose = inputs["features"][:, 0, 0, 0].astype(int) // 10
        assert inputs["features"].shape == (len(whose), 4, 2, 1)
        np.testing.assert_array_equal(inputs["features"], ROWS[whose])
        np.testing.assert_array_equal(labels, LABELS[whose])
        np.testing.assert_array_equal(inputs["teacher"], LOGITS[whose])
        assert labels.dtype == np.int32


def test_without_a_teacher_the_batches_are_the_same_and_carry_none():
    for (inputs, labels), (taught, same) in zip(batches(1, teacher=None)[0], batches(1)[0], strict=True):
        assert set(inputs) == {"features"}
        np.testing.assert_array_equal(inputs["features"], taught["features"])
        np.testing.assert_array_equal(labels, same)


def together(epoch) -> list[frozenset[int]]:
    """Who shares a batch, batch after batch."""
    order = visited(epoch)
    return [frozenset(order[start : start + 4]) for start in range(0, len(order), 4)]


def test_seed_and_epoch_alone_decide_who_shares_a_batch():
    first, again, other = batches(3), batches(3), batches(3, seed=8)
    assert [visited(epoch) for epoch in first] == [visited(epoch) for epoch in again]
    compositions = [tuple(together(epoch)) for epoch in first + other]
    assert len(set(compositions)) == 6
    assert together(first[0])[0] != frozenset(TRAIN[:4]), "the order is not the corpus's"


def test_beginning_at_epoch_3_is_skipping_three_epochs():
    whole, continued = batches(5), batches(2, first_epoch=3)
    for before, after in zip(whole[3:], continued, strict=True):
        for (inputs, labels), (same_inputs, same_labels) in zip(before, after, strict=True):
            np.testing.assert_array_equal(labels, same_labels)
            for name in ("features", "teacher"):
                np.testing.assert_array_equal(inputs[name], same_inputs[name])


def test_epoch_order_is_a_permutation_that_stays_the_same_everywhere():
    # Stored, because a run may be continued on another machine.
    assert batching.epoch_order(8, seed=1, epoch=2).tolist() == [6, 0, 7, 5, 1, 4, 3, 2]
    assert sorted(batching.epoch_order(100, seed=0, epoch=0)) == list(range(100))
    drawn = {tuple(batching.epoch_order(20, seed=s, epoch=e)) for s in range(3) for e in range(3)}
    assert len(drawn) == 9, "seed 1 epoch 2 is not seed 2 epoch 1"


def test_a_batch_as_large_as_the_set_and_a_batch_of_one():
    assert [len(labels) for _, labels in batches(1, batch_size=18)[0]] == [18]
    assert [len(labels) for _, labels in batches(1, batch_size=64)[0]] == [18]
    assert visited(batches(1, indices=[6])[0]) == [6]


def test_rows_may_come_from_disk_or_be_computed(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    on_disk = np.load(tmp_path / "rows.npy", mmap_mode="r")
    computed = feature_cache.ComputedRows(
        ROWS.reshape(COUNT, 8), lambda clips: clips.reshape(-1, 4, 2, 1), (4, 2, 1)
    )
    for rows in (on_disk, computed):
        for (inputs, _), (same, _) in zip(batches(1, rows=rows)[0], batches(1)[0], strict=True):
            np.testing.assert_array_equal(inputs["features"], same["features"])


# Augmented batches


EMBEDDINGS = np.arange(COUNT, dtype=np.float32)[:, None] * 1000 + np.arange(5, dtype=np.float32)


def augmented(text, **changes):
    """A batch source for `ROWS`, and the augmenter of features that `text` asks for."""
    asked = augment.parse(text)
    made = augmenting.Augmenter(asked, None, lambda clips: clips, SAMPLES, "both")
    return functools.partial(batches, augmentation=made, **changes)


def flat(epochs):
    return list(itertools.chain.from_iterable(epochs))


@pytest.fixture
def corpus(tmp_path):
    """Ten recordings, shorter and longer than a clip, with their features and an augmenter of `text`."""
    utterances = recorded(tmp_path, [3000, 8000, 12_001, 5001, 9000, 20_000, 7999, 8001, 640, 6000])
    form = {"front_end": "lsn", "input_type": "mfcc", "samples": SAMPLES}
    fingerprints = audio.fingerprints(utterances)
    rows = feature_cache.features(utterances, fingerprints, **form, cache=Cache(tmp_path, "ram"))

    def batches(text, epochs, *, first_epoch=0, batch_size=4, every=1, **changes):
        augmenter = augmenting.augmenter(
            augment.parse(text), utterances, fingerprints, **form, cache_folder=tmp_path / "cache", **changes
        )
        augmenter = augmenter and dataclasses.replace(augmenter, every=every)
        examples = batching.Examples(rows, np.arange(10, dtype=np.int32), tuple("abcdefghij"))
        made = batching.batches(
            examples, range(10), batch_size=batch_size, seed=3, first_epoch=first_epoch, augmenter=augmenter
        )
        steps = -(-10 // batch_size) * epochs
        return list(made.take(steps).as_numpy_iterator())

    return rows, batches


def by_utterance(found) -> dict[int, np.ndarray]:
    """Features of the utterances of one epoch; the labels say whose they are."""
    pairs = (zip(labels, inputs["features"], strict=True) for inputs, labels in found)
    return {int(label): row for label, row in itertools.chain.from_iterable(pairs)}


def test_nothing_asked_for_is_no_augmenter(utterances, tmp_path):
    form = {"front_end": "lsn", "input_type": "mfcc", "samples": SAMPLES}
    assert augmenting.augmenter((), utterances, {}, **form, cache_folder=tmp_path) is None


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_recordings_are_kept_without_padding(utterances, tmp_path, memory_limit):
    fingerprints = audio.fingerprints(utterances)
    kept = feature_cache.recordings(
        utterances, fingerprints, samples=8999, cache_folder=tmp_path / "cache", memory_limit=memory_limit
    )
    assert isinstance(kept, np.memmap) == (memory_limit == 0)
    assert kept["length"].tolist() == [8000, 5000, 8999, 3000, 8999]
    for utterance, row in zip(utterances, kept, strict=True):
        whole = audio.read(utterance.path)
        middle = audio.fit(whole, 8999) if len(whole) > 8999 else whole
        np.testing.assert_array_equal(row["samples"][: row["length"]], middle)


def test_clips_that_chance_spares_have_the_features_of_the_cache(corpus):
    rows, batches = corpus
    spared = ",".join(f"{name}:chance=0" for name in AUGMENTATIONS)
    found = by_utterance(batches(spared, 1))
    assert sorted(found) == list(range(10))
    for utterance, row in found.items():
        np.testing.assert_allclose(row, rows[utterance], rtol=1e-5, atol=2e-5)


ALL = ",".join(AUGMENTATIONS)


def test_an_epoch_that_is_continued_is_augmented_as_if_it_never_stopped(corpus):
    _, batches = corpus
    whole, continued = batches(ALL, 4)[6:], batches(ALL, 2, first_epoch=2)
    for (inputs, labels), (same, same_labels) in zip(whole, continued, strict=True):
        assert set(inputs) == set(same) == {"features", "other_labels", "share"}
        np.testing.assert_array_equal(labels, same_labels)
        for name in inputs:
            np.testing.assert_array_equal(inputs[name], same[name])


def test_every_epoch_augments_anew(corpus):
    rows, batches = corpus
    found = batches("speed,noise:chance=1,specaugment", 3)
    epochs = [by_utterance(found[start : start + 3]) for start in (0, 3, 6)]
    for utterance in range(10):
        versions = [rows[utterance], *(epoch[utterance] for epoch in epochs)]
        assert all(np.abs(a - b).max() > 0.1 for a, b in itertools.combinations(versions, 2))


def test_what_an_utterance_becomes_does_not_depend_on_its_batch_mates(corpus):
    _, batches = corpus
    text = "speed,noise,gain,shift,specaugment"
    alone, together = (by_utterance(batches(text, 1, batch_size=size)) for size in (1, 10))
    for utterance in range(10):
        np.testing.assert_allclose(alone[utterance], together[utterance], rtol=1e-4, atol=5e-5)


def test_recordings_in_a_file_give_the_same_batches(corpus, tmp_path):
    _, batches = corpus
    held, mapped = batches(ALL, 1), batches(ALL, 1, memory_limit=0)
    assert len(list(tmp_path.glob("cache/recordings-*.npy"))) == 1
    for (inputs, _), (same, _) in zip(held, mapped, strict=True):
        np.testing.assert_array_equal(inputs["features"], same["features"])


def test_an_augmented_clip_has_the_features_of_its_waveform_alone(corpus, tmp_path):
    _, batches = corpus
    found = by_utterance(batches("speed,noise:chance=1,shift", 1))
    model = features.front_end_model("lsn", "mfcc", SAMPLES)
    asked = augment.parse("speed,noise:chance=1,shift")
    for utterance, length in ((0, 3000), (1, 8000), (9, 6000)):
        clip = augment.augmented_clip(
            noise(utterance, length).astype(np.float32), asked,
            samples=SAMPLES, pad="both", seed=3, epoch=0, utterance=utterance,
        )  # fmt: skip
        np.testing.assert_allclose(found[utterance], model(clip[None])[0], rtol=1e-4, atol=5e-5)


def test_validation_and_test_see_the_clean_features(corpus):
    # They are read from the same rows, which augmentation must leave as they are.
    rows, batches = corpus
    before = rows.copy()
    batches(ALL, 2)
    np.testing.assert_array_equal(rows, before)
    clean, changed = ROWS.copy(), augmented("specaugment:time_masks=100:time_most=1,mixup")(2)
    np.testing.assert_array_equal(ROWS, clean)
    assert set(visited(changed[0])) != set(TRAIN), "else nothing was augmented"


def test_augmentation_takes_nothing_from_outside_the_training_set():
    # What is 0 outside of it and at least 100 inside would show in a mixture.
    rows = np.where(np.isin(np.arange(COUNT), TRAIN), 100.0, 0.0).astype(np.float32)[:, None, None, None]
    rows = rows + np.zeros((1, 4, 2, 1), np.float32)
    for inputs, _ in flat(augmented("specaugment,mixup:alpha=5", rows=rows)(3)):
        np.testing.assert_allclose(inputs["features"], 100.0, rtol=1e-6)


def test_masked_features_belong_to_the_labels_and_the_teacher_of_their_utterance():
    for inputs, labels in flat(augmented("specaugment")(2)):
        whose = inputs["features"].mean(axis=(1, 2, 3)).round().astype(int) // 10
        np.testing.assert_array_equal(labels, LABELS[whose])
        np.testing.assert_array_equal(inputs["teacher"], LOGITS[whose])
        assert set(inputs) == {"features", "teacher"}


def test_mixup_is_the_papers_formula_for_features_labels_and_teacher():
    clean = flat(batches(2, embeddings=EMBEDDINGS))
    mixed = flat(augmented("mixup:alpha=1", embeddings=EMBEDDINGS)(2))
    assert len(clean) == len(mixed)
    for number, ((plain, labels), (inputs, same_labels)) in enumerate(zip(clean, mixed, strict=True)):
        np.testing.assert_array_equal(labels, same_labels)
        epoch, batch = divmod(number, STEPS)
        mates = augment.mates(len(labels), seed=7, epoch=epoch, batch=batch)
        assert inputs["share"].dtype == np.float32
        assert inputs["other_labels"].dtype == np.int32
        for one, mate in enumerate(mates):
            share = float(inputs["share"][one])
            assert inputs["other_labels"][one] == labels[mate]
            for name in ("features", "teacher_embedding"):
                expected = share * plain[name][one] + (1 - share) * plain[name][mate]
                np.testing.assert_allclose(inputs[name][one], expected, rtol=1e-5)
            expected = share * softmax(plain["teacher"][one]) + (1 - share) * softmax(plain["teacher"][mate])
            np.testing.assert_allclose(softmax(inputs["teacher"][one].astype(float)), expected, rtol=2e-3)
    shares = np.concatenate([inputs["share"] for inputs, _ in mixed])
    assert len(np.unique(shares)) == len(shares), "every example of every epoch has its own"


def test_mixup_without_a_teacher_and_in_a_batch_of_one():
    for inputs, labels in flat(augmented("mixup", teacher=None, indices=[6])(3)):
        assert set(inputs) == {"features", "other_labels", "share"}
        np.testing.assert_allclose(inputs["features"], ROWS[[6]], rtol=1e-6)
        assert inputs["other_labels"] == labels == LABELS[6]


def test_teacher_embedding_are_those_of_the_features():
    for inputs, _ in flat(batches(1, embeddings=EMBEDDINGS)):
        whose = inputs["features"][:, 0, 0, 0].astype(int) // 10
        np.testing.assert_array_equal(inputs["teacher_embedding"], EMBEDDINGS[whose])


# Several inputs, text states and soft labels

SHARES = np.random.default_rng(2).multinomial(9, [0.5, 0.2, 0.3], COUNT).astype(np.float32) / 9


class Words:
    """Of utterance n, n + 1 tokens; a batch is as long as its longest."""

    def __init__(self, *inputs: str):
        self.inputs = inputs

    def __getitem__(self, batch):
        mask = np.arange(batch.max() + 1) <= batch[:, None]
        given = {
            "token_ids": np.where(mask, batch[:, None] + 100, 0).astype(np.int32),
            "text_states": np.where(mask[..., None], batch[:, None, None] / 8 + [1, 2, 3], 0).astype(
                np.float16
            ),
            "features": ROWS[batch],
            "length": batch + 1,
        }
        return {name: given[name] for name in self.inputs}


class Padded(Words):
    @property
    def shapes(self):
        return {"token_ids": (COUNT,), "features": (4, 2, 1)}

    def __getitem__(self, batch):
        more = COUNT - batch.max() - 1
        given = super().__getitem__(batch)
        return given | {"token_ids": np.pad(given["token_ids"], [(0, 0), (0, more)])}


def test_rows_of_several_inputs_keep_their_names_types_and_lengths():
    names = ("token_ids", "text_states", "features", "length")
    rows = Words(*names)
    found = flat(batches(2, rows=rows))
    assert len({inputs["features"]["token_ids"].shape for inputs, _ in found}) > 3
    for (inputs, labels), (plain, same_labels) in zip(found, flat(batches(2)), strict=True):
        np.testing.assert_array_equal(labels, same_labels)
        np.testing.assert_array_equal(inputs["teacher"], plain["teacher"])
        given = inputs["features"]
        whose = given["length"] - 1
        assert set(given) == set(names)
        for name, expected in rows[whose].items():
            assert given[name].dtype == expected.dtype
            np.testing.assert_array_equal(given[name], expected)
        np.testing.assert_array_equal(given["features"], plain["features"])


def test_a_second_axis_is_free_unless_the_rows_tell_its_length():
    def signature(rows):
        made = batching.batches(batching.Examples(rows, LABELS, ()), TRAIN, batch_size=4, seed=7)
        return {name: tuple(spec.shape) for name, spec in made.element_spec[0]["features"].items()}

    names = ("token_ids", "features", "length")
    assert signature(Words(*names)) == {
        "token_ids": (None, None),
        "features": (None, None, 2, 1),
        "length": (None,),
    }
    assert signature(Padded("token_ids", "features")) == {
        "token_ids": (None, COUNT),
        "features": (None, 4, 2, 1),
    }
    whole = flat(batches(1, rows=Padded("token_ids", "features")))
    assert {inputs["features"]["token_ids"].shape[1] for inputs, _ in whole} == {COUNT}


class States:
    def __getitem__(self, batch):
        return Words("text_states")[batch]["text_states"]


def test_teacher_states_and_soft_labels_are_those_of_the_features():
    for inputs, labels in flat(batches(2, states=States(), soft_labels=SHARES)):
        whose = inputs["features"][:, 0, 0, 0].astype(int) // 10
        assert inputs["teacher_states"].dtype == np.float16
        np.testing.assert_array_equal(inputs["teacher_states"], States()[whose])
        np.testing.assert_array_equal(inputs["soft_labels"], SHARES[whose])
        np.testing.assert_array_equal(labels, LABELS[whose])


def test_mixup_mixes_soft_labels_linearly():
    clean = flat(batches(2, soft_labels=SHARES))
    mixed = flat(augmented("mixup:alpha=1", soft_labels=SHARES)(2))
    for number, ((plain, _), (inputs, _)) in enumerate(zip(clean, mixed, strict=True)):
        epoch, batch = divmod(number, STEPS)
        mates = augment.mates(len(inputs["share"]), seed=7, epoch=epoch, batch=batch)
        for one, mate in enumerate(mates):
            share = float(inputs["share"][one])
            expected = share * plain["soft_labels"][one] + (1 - share) * plain["soft_labels"][mate]
            np.testing.assert_allclose(inputs["soft_labels"][one], expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(inputs["soft_labels"].sum(axis=1), 1, rtol=1e-5)


def first(of, text, rows=ROWS, states=None):
    """The first batch that is augmented, as one of the two functions makes it."""
    made = of(
        batching.Examples(rows, LABELS, ("anger", "fear", "joy")), TRAIN, batch_size=4, seed=7,
        teacher=batching.TeacherOutputs(LOGITS, states=states),
        augmenter=augmenting.Augmenter(augment.parse(text), None, lambda clips: clips, SAMPLES, "both"),
    )  # fmt: skip
    return next(iter(made))


@pytest.mark.parametrize("of", [batching.batches, host_batches])
@pytest.mark.parametrize("text", ["mixup", "specaugment", "noise"])
def test_what_a_student_of_text_and_speech_reads_cannot_be_augmented(text, of):
    with pytest.raises(UserError, match="leave out --augment, or choose a student of audio alone"):
        first(of, text, rows=Words("token_ids", "features"))


@pytest.mark.parametrize("of", [batching.batches, host_batches])
def test_text_states_of_a_teacher_cannot_be_mixed_but_other_augmentations_stay(of):
    with pytest.raises(UserError, match=r"mixup cannot mix .* leave mixup out of --augment"):
        first(of, "specaugment,mixup", states=States())
    assert "teacher_states" in first(of, "specaugment", states=States())[0]


def test_real_recordings_have_the_features_of_each_alone(tmp_path, shared_data):
    paths = sorted((shared_data / "EMO-DB" / "wav").glob("*.wav"))[:70:10]
    real = [Utterance(path.stem, path, "fear", path.stem[:2]) for path in paths]
    rows = rows_of(real, tmp_path, samples=48_000)
    model = features.front_end_model("lsn", "mfcc", 48_000)
    assert rows.shape == (7, 184, 40, 1)
    for path, row in zip(paths, rows, strict=True):
        alone = model(audio.fit(audio.read(path), 48_000)[None])
        np.testing.assert_allclose(row, alone[0], rtol=1e-4, atol=2e-5)


def test_a_cap_keeps_so_many_of_each_emotion_and_those_below_it_whole():
    labels = np.array([0] * 10 + [1] * 3 + [2] * 6)
    indices = tuple(range(1, 19))
    kept = batching.cap_per_class(indices, labels, 4, seed=0)
    assert list(kept) == sorted(set(kept))
    assert set(kept) <= set(indices)
    assert np.bincount(labels[list(kept)]).tolist() == [4, 3, 4]
    assert (
        kept
        == batching.cap_per_class(indices, labels, 4, seed=0)
        != batching.cap_per_class(indices, labels, 4, seed=1)
    )
    assert batching.cap_per_class(indices, labels, 0, seed=0) == indices


# Views that are kept for some epochs


def test_a_kept_clip_is_made_anew_every_third_epoch_as_that_epoch_draws_it(corpus):
    _, batches = corpus
    text = "noise:chance=1,gain,shift"
    anew, kept = batches(text, 7), batches(text, 7, every=3)
    of_anew, of_kept = (
        [by_utterance(found[start : start + 3]) for start in range(0, 21, 3)] for found in (anew, kept)
    )
    for epoch in range(7):
        for utterance in range(10):
            made = max(0, epoch - (epoch + utterance) % 3)
            np.testing.assert_allclose(
                of_kept[epoch][utterance], of_anew[made][utterance], rtol=1e-4, atol=5e-5
            )


def test_what_is_drawn_on_features_is_anew_in_every_epoch_of_a_kept_clip(corpus):
    _, batches = corpus
    found = batches("gain:chance=1,specaugment,mixup:alpha=1", 3, every=9)
    epochs = [by_utterance(found[start : start + 3]) for start in (0, 3, 6)]
    differ = [
        np.abs(epochs[a][u] - epochs[b][u]).max() > 0.1
        for a, b in itertools.combinations(range(3), 2)
        for u in range(10)
    ]
    assert np.mean(differ) > 0.9


@pytest.mark.parametrize("memory_limit", [0, 2**30])
@pytest.mark.parametrize("first_epoch", [1, 2, 5])
def test_a_run_that_continues_has_the_kept_views_bit_for_bit(corpus, first_epoch, memory_limit):
    _, batches = corpus
    text = "speed,noise:chance=1,babble:chance=1,specaugment,mixup"
    whole = batches(text, 7, every=3)[3 * first_epoch :]
    continued = batches(text, 7 - first_epoch, every=3, first_epoch=first_epoch, memory_limit=memory_limit)
    for (inputs, labels), (same, same_labels) in zip(whole, continued, strict=True):
        np.testing.assert_array_equal(labels, same_labels)
        for name in inputs:
            np.testing.assert_array_equal(inputs[name], same[name])
