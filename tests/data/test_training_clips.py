"""Augmentations made of other recordings: of a fold's training set, and of nobody else's voice."""

import numpy as np
import pytest
import soundfile

from light_sernet_kd import audio
from light_sernet_kd.audio import augment
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data import augmenter as augmenting
from light_sernet_kd.data import batches as batching
from light_sernet_kd.data import feature_cache
from light_sernet_kd.data.protocols import leave_one_speaker_out
from light_sernet_kd.data.training_clips import TrainingClips
from light_sernet_kd.errors import UserError

RATE, SAMPLES = 16_000, 8000
RECORDING = np.dtype([("length", np.int32), ("samples", np.float32, (16,))])


def rows_of(clips) -> list[int]:
    return [clips.row(number) for number in range(len(clips))]


def test_others_and_twins_are_those_of_a_search_through_the_training_set():
    rng = np.random.default_rng(0)
    speakers, labels = rng.integers(0, 6, 60), rng.integers(-1, 3, 60)
    training = rng.permutation(60)[:40]
    clips = TrainingClips(np.zeros(60, RECORDING), speakers, labels, training)
    for utterance in range(60):
        others = [row for row in training if speakers[row] != speakers[utterance]]
        twins = [
            row
            for row in training
            if speakers[row] == speakers[utterance] and labels[row] == labels[utterance] >= 0
            and row != utterance
        ]  # fmt: skip
        assert sorted(rows_of(clips.others(utterance))) == sorted(others)
        assert sorted(rows_of(clips.twins(utterance))) == sorted(twins)


def test_a_clip_is_the_recording_without_its_padding():
    recordings = np.zeros(3, RECORDING)
    recordings["length"] = (3, 16, 5)
    recordings["samples"] = np.arange(48).reshape(3, 16)
    clips = TrainingClips(recordings, np.arange(3), np.zeros(3, int), [0, 2])
    assert [clip.tolist() for clip in clips.others(1)] == [[0, 1, 2], [32, 33, 34, 35, 36]]
    with pytest.raises(IndexError):
        clips.others(1)[2]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Twelve recordings of four speakers, each speaker a tone of their own."""
    folder, made = tmp_path_factory.mktemp("voices"), []
    for number in range(12):
        hz = 500 * (number % 4 + 1)
        path = folder / f"u{number:02d}.wav"
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * np.arange(4000 + 400 * number) / RATE), RATE)
        made.append(Utterance(path.stem, path, ("anger", "fear")[number // 4 % 2], f"s{number % 4}"))
    labels = np.array([["anger", "fear"].index(each.emotion) for each in made], np.int32)
    return made, labels, audio.fingerprints(made)


def clips_of(corpus, tmp_path, text, training, monkeypatch):
    """The clips of the training batches of three epochs, by utterance."""
    utterances, labels, fingerprints = corpus
    form = {"front_end": "lsn", "input_type": "mfcc", "samples": SAMPLES}
    augmenter = augmenting.augmenter(
        augment.parse(text), utterances, fingerprints, **form, cache_folder=tmp_path / "cache"
    )
    seen = []
    rows = feature_cache.features(
        utterances, fingerprints, **form, cache=feature_cache.Cache(tmp_path, "ram")
    )
    monkeypatch.setattr(batching.augment, "augmented_clip", _noting(seen, batching.augment.augmented_clip))
    examples = batching.Examples(rows, labels, ("anger", "fear"))
    list(
        batching.batches(examples, training, batch_size=4, seed=1, augmenter=augmenter)
        .take(3 * -(-len(training) // 4))
        .as_numpy_iterator()
    )
    return seen


def _noting(seen, function):
    def noted(waveform, *args, **kwargs):
        clip = function(waveform, *args, **kwargs)
        seen.append((kwargs["utterance"], clip))
        return clip

    return noted


def share_at(clip, hz) -> float:
    """Of the clip's energy, within 30 Hz of `hz`."""
    heard = clip[np.flatnonzero(clip)[0] : np.flatnonzero(clip)[-1] + 1]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)), 2**14)) ** 2
    centre = round(hz * 2**14 / RATE)
    return spectrum[centre - 31 : centre + 32].sum() / spectrum.sum()


def test_babble_of_a_fold_holds_training_speakers_and_no_other_voice(corpus, tmp_path, monkeypatch):
    utterances, _, _ = corpus
    fold = leave_one_speaker_out(utterances, 0, 4)[0]
    left_out = {utterances[i].speaker for i in [*fold.test, *fold.validation]}
    assert len(left_out) == 2
    text = "babble:chance=1:snr_low=0:snr_high=0"
    seen = clips_of(corpus, tmp_path, text, list(fold.train), monkeypatch)
    assert {utterance for utterance, _ in seen} == set(fold.train)
    for utterance, clip in seen:
        for speaker in range(4):
            share = share_at(clip, 500 * (speaker + 1))
            if f"s{speaker}" in left_out:
                assert share < 1e-4, f"{utterance} holds the voice of s{speaker}, who is left out"
            elif f"s{speaker}" != utterances[utterance].speaker:
                assert share > 0.2, "at 0 dB half of it is the other one's"


def test_babble_needs_two_speakers(corpus, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="one alone is trained on: leave babble out of --augment"):
        clips_of(corpus, tmp_path, "babble", [0, 4, 8], monkeypatch)


def test_copypaste_of_a_fold_joins_training_clips_of_one_speaker_and_class(corpus, tmp_path, monkeypatch):
    _, labels, _ = corpus
    training = [i for i in range(12) if i % 4 in (0, 1)]
    seen = clips_of(corpus, tmp_path, "copypaste:chance=1", training, monkeypatch)
    assert {utterance for utterance, _ in seen} == set(training)
    for utterance, clip in seen:
        assert share_at(clip, 500 * (utterance % 4 + 1)) > 0.9, "no other speaker's tone"
        # Angry are 0 to 3 and 8 to 11: twins, whose two recordings are longer than a clip.
        assert labels[utterance] == (4 <= utterance < 8)
        filled = clip[0] != 0 or clip[-1] != 0
        assert filled == (labels[utterance] == 0)
