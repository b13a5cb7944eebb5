"""The made corpus: reproducible, speech-like where that can be measured, learnable but not trivial."""

import csv
import shutil
import wave
from collections import Counter
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.signal

from light_sernet_kd.config import SAMPLE_RATE
from light_sernet_kd.corpora import Corpus, demo, synthetic
from light_sernet_kd.errors import UserError

HOP = 320


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    return demo.utterances(tmp_path_factory.mktemp("made") / "demo")


@pytest.fixture(scope="session")
def clips(corpus) -> dict[str, np.ndarray]:
    return {utterance.id: read_wav(utterance.path) for utterance in corpus.utterances}


@pytest.fixture
def small_tables(monkeypatch):
    """Two speakers, one sentence, seven emotions: 14 clips, for tests that make the folder more than once."""
    monkeypatch.setattr(demo, "SPEAKERS", dict(list(demo.SPEAKERS.items())[:2]))
    monkeypatch.setattr(demo, "SENTENCES", dict(list(demo.SENTENCES.items())[:1]))


def read_wav(path: Path) -> np.ndarray:
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def frames_of(clip: np.ndarray, length: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(clip, length)[::HOP]


def pitch_track_hz(clip: np.ndarray) -> np.ndarray:
    """Pitch of the frames that are loud and periodic, by the peak of the normalised autocorrelation."""
    length = 800
    frames = frames_of(clip, length)
    power = np.abs(np.fft.rfft(frames * np.hanning(length), 2 * length)) ** 2
    window_power = np.abs(np.fft.rfft(np.hanning(length), 2 * length)) ** 2
    autocorrelation = np.fft.irfft(power)[:, :length] / np.fft.irfft(window_power)[:length].clip(1e-3)
    autocorrelation /= autocorrelation[:, :1]
    shortest, longest = SAMPLE_RATE // 500, SAMPLE_RATE // 60
    lags = autocorrelation[:, shortest:longest]
    best = lags.max(axis=1)
    # The first lag that comes near the best: multiples of a period are peaks too.
    lag = shortest + np.argmax(lags > 0.9 * best[:, None], axis=1)
    # That lag lies on the rise of its peak: climb to the top.
    for _ in range(30):
        here = autocorrelation[np.arange(len(lag)), lag]
        after = autocorrelation[np.arange(len(lag)), np.minimum(lag + 1, longest)]
        lag = np.where(after > here, lag + 1, lag).clip(max=longest)
    loud = np.sqrt(np.mean(frames**2, axis=1))
    return SAMPLE_RATE / lag[(loud > 0.3 * loud.max()) & (best > 0.6)]


def measurements(clip: np.ndarray, speaker: str) -> dict[str, float]:
    """What an emotion is said to move, per clip; `pitch` in semitones above the speaker's own."""
    pitch_hz = pitch_track_hz(clip)
    semitones = 12 * np.log2(pitch_hz / demo.SPEAKERS[speaker].pitch_hz)
    power = np.abs(np.fft.rfft(clip)) ** 2
    frequency_hz = np.fft.rfftfreq(len(clip), 1 / SAMPLE_RATE)
    return {
        "pitch_hz": float(np.median(pitch_hz)),
        "pitch": float(np.median(semitones)),
        "pitch_range": float(np.subtract(*np.percentile(semitones, [90, 10]))),
        "seconds": len(clip) / SAMPLE_RATE,
        "level_db": float(10 * np.log10(np.mean(clip**2))),
        "tilt_db": float(
            10
            * np.log10(
                power[frequency_hz < 1000].sum() / power[(frequency_hz > 1000) & (frequency_hz < 4000)].sum()
            )
        ),
    }


@pytest.fixture(scope="session")
def measured(corpus, clips) -> dict[str, dict[str, float]]:
    return {
        utterance.id: measurements(clips[utterance.id], utterance.speaker) for utterance in corpus.utterances
    }


def mean_of(measured, quantity: str, emotion: str) -> float:
    return float(np.mean([row[quantity] for name, row in measured.items() if name.endswith(f"-{emotion}")]))


# What is in the folder


def test_six_speakers_say_ten_sentences_in_seven_emotions(corpus):
    assert corpus.name == "demo"
    assert corpus.synthetic
    assert corpus.speakers == ("s1", "s2", "s3", "s4", "s5", "s6")
    assert corpus.classes == ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
    assert len(corpus.utterances) == 6 * 10 * 7
    assert set(Counter((u.speaker, u.emotion) for u in corpus.utterances).values()) == {10}
    assert set(Counter((u.transcript, u.emotion) for u in corpus.utterances).values()) == {6}
    assert not corpus.left_out


def test_ids_are_sorted_unique_and_say_demo(corpus):
    ids = [utterance.id for utterance in corpus.utterances]
    assert ids == sorted(set(ids))
    assert ids[0] == "demo-s1-e01-anger"
    assert all(utterance.path.name == f"{utterance.id}.wav" for utterance in corpus.utterances)


def test_clips_are_16_khz_mono_16_bit(corpus):
    for utterance in corpus.utterances:
        with wave.open(str(utterance.path), "rb") as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)


def test_clips_last_about_one_to_two_and_a_half_seconds_and_do_not_clip(clips):
    seconds = np.array([len(clip) / SAMPLE_RATE for clip in clips.values()])
    assert seconds.min() > 1.1
    assert seconds.max() < 2.8
    assert np.quantile(seconds, 0.95) < 2.5
    assert max(np.abs(clip).max() for clip in clips.values()) <= 0.971


def test_manifest_lists_every_clip(corpus):
    root = corpus.utterances[0].path.parent
    with open(root / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    keys = ("path", "emotion", "speaker", "id", "transcript")
    assert rows == [
        dict(zip(keys, (u.path.name, u.emotion, u.speaker, u.id, u.transcript), strict=True))
        for u in corpus.utterances
    ]


def test_readme_says_that_nothing_was_recorded(corpus):
    text = (corpus.utterances[0].path.parent / "README.txt").read_text(encoding="utf-8")
    assert "synthetic, not recordings" in text


# The same seed, the same clip


def test_a_clip_alone_equals_the_clip_made_among_all_others(clips):
    for name in ("demo-s6-e10-sadness", "demo-s1-e01-anger", "demo-s3-e07-fear"):
        _, speaker, sentence, emotion = name.split("-")
        alone = demo.synthesise(speaker, sentence, emotion, seed=0)
        assert alone.dtype == np.float32
        np.testing.assert_array_equal(np.round(alone * 32767), clips[name] * 32768)


def test_another_seed_gives_another_clip():
    first, second = (demo.synthesise("s1", "e01", "fear", seed=seed) for seed in (0, 1))
    assert len(first) != len(second) or not np.allclose(first, second)


@pytest.mark.usefixtures("small_tables")
def test_two_makings_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        demo.make(tmp_path / name, seed=3)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert len(first) == 14 + 3
    assert first == second


@pytest.mark.parametrize("sample_rate", [8_000, 22_050])
def test_the_sample_rate_changes_neither_length_nor_pitch(sample_rate):
    reference = demo.synthesise("s4", "e02", "neutral")
    other = demo.synthesise("s4", "e02", "neutral", sample_rate=sample_rate)
    assert len(other) / sample_rate == pytest.approx(len(reference) / SAMPLE_RATE, abs=0.02)
    resampled = scipy.signal.resample(other, len(other) * SAMPLE_RATE // sample_rate)
    ratio = np.median(pitch_track_hz(resampled)) / np.median(pitch_track_hz(reference))
    assert ratio == pytest.approx(1, abs=0.03)


def test_an_unknown_emotion_is_refused_with_the_valid_ones():
    with pytest.raises(UserError, match=r"'angry'.*anger.*sadness"):
        demo.synthesise("s1", "e01", "angry")


# Signal


def test_filtering_with_a_constant_response_is_a_convolution():
    rng = np.random.default_rng(0)
    hop, frames = 20, 12
    excitation = rng.standard_normal(frames * hop)
    impulse_response = rng.standard_normal(6 * hop + 1)
    response = np.tile(np.fft.rfft(impulse_response, 8 * hop), (frames + 1, 1))
    expected = np.convolve(excitation, impulse_response)[: len(excitation)]
    np.testing.assert_allclose(synthetic._filter(excitation, response, hop), expected, atol=1e-12)


def test_the_tract_resonates_at_the_formants_of_the_vowel():
    bins = np.arange(801) * 10.0
    z = np.exp(-2j * np.pi * bins / SAMPLE_RATE)
    vowel_hz = np.array([[660.0, 1720.0, 2410.0]])
    gain = np.abs(synthetic._tract(vowel_hz, np.zeros(1), 1.0, z, SAMPLE_RATE)[0])
    peaks_hz = bins[1:-1][(gain[1:-1] > gain[:-2]) & (gain[1:-1] > gain[2:])]
    np.testing.assert_allclose(peaks_hz[:4], [660, 1720, 2410, 3500], atol=25)
    assert gain[0] == pytest.approx(1)


@pytest.mark.parametrize("speaker", demo.SPEAKERS)
def test_neutral_pitch_is_the_speakers_own(measured, speaker):
    medians_hz = [
        row["pitch_hz"]
        for name, row in measured.items()
        if name.startswith(f"demo-{speaker}-") and name.endswith("-neutral")
    ]
    deviation_semitones = 12 * np.log2(np.mean(medians_hz) / demo.SPEAKERS[speaker].pitch_hz)
    assert abs(deviation_semitones) < 1.5


def formant_scale(clips: dict[str, np.ndarray], speaker: str, reference: str) -> float:
    """The factor on frequency that best lays one speaker's long-term envelope over another's."""

    def envelope(name: str) -> np.ndarray:
        chosen = [clip for key, clip in clips.items() if key.startswith(f"demo-{name}-")]
        cepstra = []
        for clip in chosen:
            frames = frames_of(clip, 480) * np.hanning(480)
            loud = frames.std(axis=1) > 0.3 * frames.std(axis=1).max()
            log_power = np.log(np.abs(np.fft.rfft(frames[loud], 1024)) ** 2 + 1e-9)
            cepstra.append(np.fft.irfft(log_power).mean(axis=0))
        cepstrum = np.mean(cepstra, axis=0)
        cepstrum[40:-39] = 0  # drops the harmonics
        return np.fft.rfft(cepstrum).real

    frequency_hz = np.fft.rfftfreq(1024, 1 / SAMPLE_RATE)
    band_hz = np.arange(800, 4800, 10.0)
    line = np.vander(band_hz, 2)

    def flattened(curve: np.ndarray) -> np.ndarray:
        return curve - line @ np.linalg.lstsq(line, curve, rcond=None)[0]

    theirs, ours = envelope(reference), envelope(speaker)
    target = flattened(np.interp(band_hz, frequency_hz, theirs))
    factors = np.arange(0.80, 1.35, 0.005)
    match = [
        np.corrcoef(target, flattened(np.interp(band_hz * factor, frequency_hz, ours)))[0, 1]
        for factor in factors
    ]
    return float(factors[np.argmax(match)])


@pytest.mark.parametrize("speaker", ["s2", "s3", "s4", "s5", "s6"])
def test_resonances_scale_with_the_speakers_tract(clips, speaker):
    expected = demo.SPEAKERS[speaker].tract / demo.SPEAKERS["s1"].tract
    assert formant_scale(clips, speaker, "s1") == pytest.approx(expected, abs=0.03)


# Emotions


@pytest.mark.parametrize(
    ("quantity", "more", "less", "margin"),
    [
        ("level_db", "anger", "sadness", 6),
        ("level_db", "happiness", "boredom", 3),
        ("seconds", "sadness", "anger", 0.3),
        ("seconds", "boredom", "fear", 0.2),
        ("pitch", "fear", "neutral", 3),
        ("pitch", "anger", "sadness", 3),
        ("pitch_range", "happiness", "boredom", 3),
        ("pitch_range", "anger", "neutral", 1.5),
        ("tilt_db", "sadness", "anger", 3),
    ],
)
def test_emotions_move_the_voice_as_they_should(measured, quantity, more, less, margin):
    assert mean_of(measured, quantity, more) - mean_of(measured, quantity, less) > margin


def test_no_single_measure_parts_anger_from_happiness(measured):
    for quantity in ("pitch", "pitch_range", "seconds", "level_db", "tilt_db"):
        anger, happiness = (
            [row[quantity] for name, row in measured.items() if name.endswith(emotion)]
            for emotion in ("-anger", "-happiness")
        )
        assert max(min(anger), min(happiness)) < min(max(anger), max(happiness))


@pytest.mark.every
def test_a_linear_classifier_learns_every_emotion_on_unseen_speakers_but_not_perfectly(
    corpus, clips, measured
):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = []
    for name, clip in clips.items():
        mfcc = librosa.feature.mfcc(y=clip, sr=SAMPLE_RATE, n_mfcc=13, n_fft=512, hop_length=HOP)
        row = measured[name]
        # Pitch in Hz, not relative to the speaker's own: that would give an unseen speaker away.
        prosody = [np.log2(row["pitch_hz"]), row["pitch_range"], row["seconds"]]
        rows.append([*mfcc.mean(axis=1), *mfcc.std(axis=1), *prosody])
    emotions = [utterance.emotion for utterance in corpus.utterances]
    predicted = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)),
        np.array(rows),
        emotions,
        groups=[utterance.speaker for utterance in corpus.utterances],
        cv=LeaveOneGroupOut(),
    )
    recalls = recall_score(emotions, predicted, average=None)
    assert 0.5 < recalls.mean() < 0.95
    assert recalls.min() > 2 / 7


# Whole or not at all


@pytest.mark.usefixtures("small_tables")
def test_an_interrupted_making_leaves_nothing(tmp_path, monkeypatch):
    made = []
    original = demo.synthesise

    def interrupted(*args, **kwargs):
        made.append(args)
        if len(made) == 5:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(demo, "synthesise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.make(tmp_path / "data" / "demo")
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.usefixtures("small_tables")
def test_whoever_is_second_to_make_it_uses_the_first_folder(tmp_path, monkeypatch):
    root = tmp_path / "demo"
    original = demo.synthesise

    def overtaken(*args, **kwargs):
        if not root.exists():
            monkeypatch.setattr(demo, "synthesise", original)
            demo.make(root)
        return original(*args, **kwargs)

    monkeypatch.setattr(demo, "synthesise", overtaken)
    assert len(demo.utterances(root).utterances) == 14
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.usefixtures("small_tables")
def test_an_empty_folder_is_filled_and_a_full_one_is_read_untouched(tmp_path):
    root = tmp_path / "demo"
    root.mkdir()
    demo.utterances(root)
    before = {path: path.stat().st_mtime_ns for path in root.iterdir()}
    assert len(demo.utterances(root).utterances) == 14
    assert {path: path.stat().st_mtime_ns for path in root.iterdir()} == before


@pytest.mark.usefixtures("small_tables")
def test_make_does_not_overwrite(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        demo.make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def lose_a_clip(root: Path) -> None:
    (root / "demo-s2-e01-fear.wav").unlink()


def cut_a_clip_short(root: Path) -> None:
    path = root / "demo-s2-e01-fear.wav"
    path.write_bytes(path.read_bytes()[:-1000])


def empty_a_clip(root: Path) -> None:
    (root / "demo-s2-e01-fear.wav").write_bytes(b"")


@pytest.mark.usefixtures("small_tables")
@pytest.mark.parametrize("damage", [lose_a_clip, cut_a_clip_short, empty_a_clip])
def test_a_damaged_folder_is_refused_and_the_remedy_works(tmp_path, damage):
    root = tmp_path / "demo"
    demo.make(root)
    damage(root)
    with pytest.raises(UserError, match=r"1 of its 14 clips.*demo-s2-e01-fear.*Delete the folder"):
        demo.utterances(root)
    shutil.rmtree(root)
    assert len(demo.utterances(root).utterances) == 14


@pytest.mark.usefixtures("small_tables")
def test_clips_of_another_version_are_refused(tmp_path, monkeypatch):
    root = tmp_path / "demo"
    demo.make(root)
    monkeypatch.setattr(demo, "VERSION", "newer")
    with pytest.raises(UserError, match=r"holds version '\d+'.*this is newer.*Delete the folder"):
        demo.utterances(root)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "holiday.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match="not a demo corpus"):
        demo.utterances(tmp_path)
