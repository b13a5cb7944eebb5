"""The stress certificate: what is measured, what passes, what is written, and what is refused."""

import dataclasses
import json
import zlib

import numpy as np
import pytest
import soundfile
from librosa_pitch import pitch_of
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score

from light_sernet_kd import audio, cli
from light_sernet_kd.analysis import stress
from light_sernet_kd.analysis.stress import Part, Student, certificate, measures, pitch
from light_sernet_kd.analysis.stress.measures import AnswersByCondition, NotApplicableError
from light_sernet_kd.analysis.stress.noises import MOST, read_noises
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries import certificate as registry
from light_sernet_kd.registries.certificate import TESTS
from light_sernet_kd.registries.degradations import CONDITIONS, NOISES

RATE = 16_000
CLASSES = ("anger", "fear", "joy")
BY_SEX = next(test for test in TESTS if test.grouped_by == "sex")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def answered(count: int = 400, *, seed: int = 0, right: float = 0.7, **groups) -> AnswersByCondition:
    """Random labels and answers of five speakers, clean and in noise."""
    draw = rng(seed)
    labels = draw.choice(3, count, p=[0.5, 0.3, 0.2])
    guess = [np.where(draw.random(count) < right, labels, draw.integers(3, size=count)) for _ in range(2)]
    speakers = draw.choice(list("ABCDE"), count)
    told = {
        "sex": np.where(np.isin(speakers, ["A", "B"]), "female", np.where(speakers == "E", "", "male")),
        "pitch": np.full(count, ""),
        **groups,
    }
    return AnswersByCondition(CLASSES, labels, {"clean": guess[0], "phone": guess[1]}, speakers, told)


def test_named(test: str, measure: str) -> registry.CertificateTest:
    return next(each for each in TESTS if (each.name, each.measure) == (test, measure))


test_named.__test__ = False


# What is measured, against scikit-learn and loops


def test_recall_and_precision_are_those_of_scikit_learn():
    each = answered()
    true, said = each.labels, each.predicted["clean"]
    recall = recall_score(true, said, average=None)
    precision = precision_score(true, said, average=None)
    assert measures.recalls(each) == pytest.approx(dict(zip(CLASSES, recall, strict=True)))
    assert measures.precisions(each) == pytest.approx(dict(zip(CLASSES, precision, strict=True)))
    assert measures.uar(each, BY_SEX)[0] == pytest.approx(balanced_accuracy_score(true, said))
    assert measures.uap(each, BY_SEX)[0] == pytest.approx(precision.mean())
    assert measures.lowest_recall(each, BY_SEX) == (
        pytest.approx(recall.min()), CLASSES[recall.argmin()],
    )  # fmt: skip
    assert measures.lowest_precision(each, BY_SEX)[1] == CLASSES[precision.argmin()]


def test_a_class_that_is_never_answered_has_no_precision_and_one_without_recordings_is_left_out():
    said = {"clean": np.array([0, 0, 0])}
    each = AnswersByCondition(CLASSES, np.array([0, 0, 1]), said, np.array(["A"] * 3), {})
    assert measures.precisions(each) == {"anger": pytest.approx(2 / 3), "fear": 0}
    assert measures.recalls(each) == {"anger": 1, "fear": 0}


def test_what_a_condition_changes_is_a_difference_and_a_share_of_equal_answers():
    each, test = answered(), test_named("phone", "ΔUAR")
    true, clean, noisy = each.labels, each.predicted["clean"], each.predicted["phone"]
    expected = balanced_accuracy_score(true, noisy) - balanced_accuracy_score(true, clean)
    assert measures.uar_change(each, test)[0] == pytest.approx(expected)
    expected = precision_score(true, noisy, average="macro") - precision_score(true, clean, average="macro")
    assert measures.uap_change(each, test)[0] == pytest.approx(expected)
    assert measures.unchanged(each, test)[0] == sum(clean == noisy) / len(clean)


def test_shares_of_classes_by_counting():
    each = answered(right=0.2)
    errors = {
        name: abs(sum(each.predicted["clean"] == k) - sum(each.labels == k)) / len(each.labels)
        for k, name in enumerate(CLASSES)
    }
    worst = max(errors, key=errors.get)
    assert measures.share_error(each, BY_SEX) == (pytest.approx(errors[worst]), worst)


def by_speaker(each: AnswersByCondition, k: int) -> list[tuple[float, float]]:
    """(true, answered) share of a class of each speaker with 10 recordings."""
    pairs = []
    for name in sorted({*each.speakers}):
        rows = [i for i, speaker in enumerate(each.speakers) if speaker == name]
        if len(rows) >= 10:
            true = sum(each.labels[i] == k for i in rows) / len(rows)
            pairs.append((true, sum(each.predicted["clean"][i] == k for i in rows) / len(rows)))
    return pairs


def test_speakers_are_compared_by_their_shares_of_each_class():
    each = answered(right=0.5)
    few = np.concatenate([each.speakers[:-9], ["Z"] * 9])  # nine recordings are too few
    each = dataclasses.replace(each, speakers=few)
    errors, ranks = {}, {}
    for k, name in enumerate(CLASSES):
        pairs = by_speaker(each, k)
        assert len(pairs) == 5
        errors[name] = sum(abs(a - b) for a, b in pairs) / len(pairs)
        # Spearman's formula without ties
        true, said = (np.argsort(np.argsort([pair[side] for pair in pairs])) for side in (0, 1))
        ranks[name] = 1 - 6 * sum((true - said) ** 2) / (5 * 24)
    worst, lowest = max(errors, key=errors.get), min(ranks, key=ranks.get)
    assert measures.speaker_share_error(each, BY_SEX) == (pytest.approx(errors[worst]), worst)
    assert measures.speaker_rank(each, BY_SEX) == (pytest.approx(ranks[lowest]), lowest)


def test_ranks_need_speakers_who_differ_and_constant_answers_have_none_right():
    speakers = np.repeat(list("ABC"), 10)
    labels = np.tile([0, 0, 1, 1, 1, 2, 2, 2, 2, 2], 3)
    alike = AnswersByCondition(CLASSES, labels, {"clean": labels}, speakers, {})
    with pytest.raises(NotApplicableError, match="as often"):
        measures.speaker_rank(alike, BY_SEX)
    labels = np.concatenate([[0] * 3 + [1] * 7, [0] * 5 + [1] * 5, [0] * 8 + [1] * 2])
    same = AnswersByCondition(CLASSES, labels, {"clean": np.zeros(30, int)}, speakers, {})
    assert measures.speaker_rank(same, BY_SEX)[0] == 0
    with pytest.raises(NotApplicableError, match="fewer than 3 speakers with 10"):
        measures.speaker_rank(
            AnswersByCondition(CLASSES, labels[:20], same.predicted, speakers[:20], {}), BY_SEX
        )


def test_a_group_is_compared_with_all_groups_and_unknown_sex_counts_nowhere():
    each = answered(900)
    known = each.groups["sex"] != ""
    true, said = each.labels, each.predicted["clean"]
    recall = recall_score(true[known], said[known], average=None)
    gaps = {}
    for sex in ("female", "male"):
        rows = each.groups["sex"] == sex
        for k, gap in enumerate(np.abs(recall_score(true[rows], said[rows], average=None) - recall)):
            gaps[f"{sex}, {CLASSES[k]}"] = gap
    worst = max(gaps, key=gaps.get)
    assert measures.recall_gap(each, BY_SEX) == (pytest.approx(gaps[worst]), worst)
    uar = {
        sex: abs(
            balanced_accuracy_score(true[rows], said[rows])
            - balanced_accuracy_score(true[known], said[known])
        )
        for sex in ("female", "male")
        for rows in [each.groups["sex"] == sex]
    }
    assert measures.uar_gap(each, BY_SEX)[0] == pytest.approx(max(uar.values()))
    whole = precision_score(true[known], said[known], average=None)
    gaps = [
        np.abs(precision_score(true[rows], said[rows], average=None) - whole).max()
        for rows in (each.groups["sex"] == "female", each.groups["sex"] == "male")
    ]
    assert measures.precision_gap(each, BY_SEX)[0] == pytest.approx(max(gaps))


@pytest.mark.parametrize("told", ["", "female"])
def test_a_corpus_without_two_sexes_is_not_applicable_rather_than_passed(told):
    each = answered(sex=np.full(400, told))
    for function in (measures.uar_gap, measures.uap_gap, measures.recall_gap, measures.precision_gap):
        with pytest.raises(NotApplicableError, match="sex"):
            function(each, BY_SEX)


# The thresholds


def test_the_thresholds_are_the_published_ones():
    found = {(test.name, test.measure): (test.rule, test.threshold) for test in TESTS}
    assert len(found) == len(TESTS), "two tests look the same in the table"
    for name in ("babble", "cough", "environment", "music", "sneeze", "white noise"):
        assert found[name, "ΔUAR"] == found[name, "ΔUAP"] == ("≥", -0.05)
        assert found[name, "unchanged"] == ("≥", 0.9)
    assert found["phone", "unchanged"] == ("≥", 0.5)
    assert found["tilt up", "ΔUAR"] == ("≥", -0.02)
    assert found["room", "unchanged"] == found["position", "unchanged"] == ("≥", 0.8)
    assert found["tone", "unchanged"] == ("≥", 0.95)
    assert found["sex", "|ΔUAR|"] == found["pitch", "|ΔUAR|"] == ("<", 0.075)
    assert (found["sex", "|Δrecall|"], found["pitch", "|Δrecall|"]) == (("<", 0.175), ("<", 0.225))
    assert found["speakers", "|Δshare|"] == ("<", 0.1)
    assert found["speakers", "rank correlation"] == (">", 0.7)
    assert found["each class", "|Δshare|"] == ("<", 0.15)
    assert found["all", "UAR"] == found["each class", "precision"] == (">", 0.5)


@pytest.mark.parametrize(
    ("rule", "threshold", "passing", "failing"),
    [("<", 0.15, 0.149, 0.15), (">", 0.5, 0.501, 0.5), ("≥", -0.05, 0.45 - 0.5, -0.0501)],
)
def test_a_value_at_the_threshold_passes_where_the_rule_says_so(rule, threshold, passing, failing):
    test = dataclasses.replace(TESTS[0], rule=rule, threshold=threshold)
    assert test.passes(passing)
    assert not test.passes(failing)


def test_every_condition_of_a_test_exists_and_its_comparison_too():
    assert all(test.condition in CONDITIONS and test.against in CONDITIONS for test in TESTS)
    names = certificate.conditions()
    assert names[0] == "clean"
    assert {"booth", "centre", "phone", "babble 20 dB"} <= {*names}
    assert names == [name for name in CONDITIONS if name in names]


# Pitch


@pytest.mark.parametrize("hz", [90, 145, 190, 250, 380])
def test_the_pitch_of_a_voice_is_its_fundamental(hz):
    seconds = np.arange(RATE) / RATE
    tone = sum(np.sin(2 * np.pi * hz * k * seconds + k) / k for k in range(1, 12))
    noisy = (tone + 0.1 * rng().standard_normal(RATE)).astype(np.float32)
    assert pitch.mean_f0(noisy) == pytest.approx(hz, rel=0.01)
    # Silence around it has no voice, and counts for nothing.
    assert pitch.mean_f0(np.pad(noisy, RATE)) == pytest.approx(hz, rel=0.01)


def test_noise_silence_and_an_instant_have_no_pitch():
    assert pitch.mean_f0(np.zeros(RATE, np.float32)) is None
    assert pitch.mean_f0(np.ones(20, np.float32)) is None
    assert pitch.mean_f0(np.full(RATE, 0.3, np.float32)) is None
    found = pitch.mean_f0(rng().standard_normal(RATE).astype(np.float32))
    assert found is None or found > 300


@pytest.mark.every  # numba compiles for twenty seconds; the tones above have the pitch by construction
def test_the_pitch_of_speech_is_that_of_pyin(shared_data):
    paths = sorted((shared_data / "EMO-DB" / "wav").glob("*a01*.wav"))[::8]
    clips = {path.stem: soundfile.read(path, dtype="float32")[0] for path in paths}
    theirs = pitch_of(clips, "pyin", fmin=75, fmax=500, sr=RATE, frame_length=640, hop_length=160)
    apart = [abs(pitch.mean_f0(clip) / np.nanmean(theirs[name]) - 1) for name, clip in clips.items()]
    assert len(apart) > 5
    assert np.median(apart) < 0.05


def test_speakers_are_grouped_by_the_mean_of_their_plausible_recordings():
    f0_of, speaker_of = {}, {}
    for speaker, hz, count in (
        *(("low", 145.0, 26), ("medium", 190.0, 30), ("high", 190.1, 26)),
        *(("few", 120.0, 25), ("odd", 400.0, 40)),
    ):
        for number in range(count):
            f0_of[f"{speaker}{number}"], speaker_of[f"{speaker}{number}"] = hz, speaker
    f0_of["low0"] = 340.0  # plausible, and it counts
    f0_of["medium0"], f0_of["medium1"] = None, 360.0
    assert pitch.groups(f0_of, speaker_of) == {"low": "medium", "medium": "medium", "high": "high"}


# A certificate of students


class Levels:
    """A student that answers by the level of what it hears; deaf to whatever else changes."""

    inputs, sample_rate, text, precision, samples, card = ("audio",), RATE, None, "int8", RATE, {}
    labels = ("a", "b", "c")

    def probabilities(self, waveform):
        level = 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)) + 1e-12)
        return np.eye(3, dtype=np.float32)[int(np.digitize(level, [-30, -20]))]


class Two(Levels):
    """A student that knows two of the emotions, and is tested on their recordings alone."""

    labels = ("a", "b")

    def probabilities(self, waveform):
        return super().probabilities(waveform)[:2]


class Constant(Levels):
    def probabilities(self, waveform):
        return np.eye(3, dtype=np.float32)[0]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("levels")
    utterances = []
    for place, speaker in enumerate("ABCD"):
        for number in range(14):
            emotion, dbfs = (("a", -40.0), ("b", -25.0), ("c", -12.0))[min(2, (number * (place + 1)) % 5)]
            name = f"{speaker}{number}"
            noise = rng(zlib.crc32(name.encode())).uniform(-1, 1, RATE // 2)
            sound = noise / np.sqrt(np.mean(noise**2)) * 10 ** (dbfs / 20)
            soundfile.write(folder / f"{name}.wav", sound, RATE, subtype="FLOAT")
            sex = "female" if speaker in "AB" else "male"
            utterances.append(Utterance(name, folder / f"{name}.wav", emotion, speaker, sex=sex))
    return Corpus("levels", tuple(utterances))


def student(runner=None, **about) -> Student:
    return Student("s", (Part(runner or Levels()),), "trained elsewhere", None, **about)


@pytest.fixture(scope="module")
def certified(corpus) -> dict:
    return stress.certify([student(), student(Constant())], corpus)


def rows_of(result: dict, place: int = 0) -> dict:
    rows = result["students"][place]["certificate"]["tests"]
    return {(row["test"], row["measure"]): row for row in rows}


def test_a_student_that_hears_levels_passes_what_leaves_them_and_a_constant_one_passes_no_recall(certified):
    rows, constant = rows_of(certified), rows_of(certified, 1)
    for name in ("phone", "tilt up", "room", "position", "white noise", "music", "tone", "low-pass"):
        assert rows[name, "unchanged"]["value"] == pytest.approx(1, abs=0.03)
        assert constant[name, "unchanged"]["value"] == 1
    assert rows["all", "UAR"]["value"] == 1
    assert constant["all", "UAR"]["value"] == pytest.approx(1 / 3)
    assert constant["each class", "recall"]["verdict"] == "failed"
    assert constant["phone", "ΔUAR"] == {
        "group": "robustness", "test": "phone", "measure": "ΔUAR", "rule": "≥", "threshold": -0.05,
        "value": 0, "where": "", "verdict": "passed", "reason": "",
    }  # fmt: skip
    assert constant["sex", "|ΔUAR|"]["verdict"] == "passed"
    assert rows["pitch", "|ΔUAR|"]["verdict"] == "not applicable", "14 recordings of a speaker are too few"
    microphone = rows["microphone", "unchanged"]
    assert (microphone["verdict"], microphone["value"]) == ("not run", None)


def test_the_verdict_counts_what_was_decided_alone(certified):
    for told in certified["students"]:
        found = told["certificate"]
        states = [row["verdict"] for row in found["tests"]]
        assert found["passed"] == states.count("passed")
        assert found["failed"] == states.count("failed")
        assert found["not_run"] + found["not_applicable"] == len(TESTS) - found["passed"] - found["failed"]
        decided = found["passed"] + found["failed"]
        assert certificate.summary(found).startswith(
            f"{found['passed']} of {decided} tests passed, 1 not run"
        )
    assert certified["students"][1]["certificate"]["failed"] > 4


def test_of_students_that_know_different_emotions_each_has_the_pitch_of_its_own_recordings(
    corpus, monkeypatch
):
    monkeypatch.setattr(pitch, "mean_f0", lambda waveform: 120.0)
    alone = dataclasses.replace(corpus, utterances=corpus.utterances[:14])
    made = stress.certify([student(Two()), student()], alone)
    assert {each.emotion for each in alone.utterances} == {"a", "b", "c"}
    assert [len(rows_of(made, place)) for place in (0, 1)] == [len(TESTS)] * 2


def test_without_pyav_or_other_speakers_a_test_is_not_run(corpus, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    alone = dataclasses.replace(corpus, utterances=corpus.utterances[:14])
    rows = rows_of(stress.certify([student()], alone))
    for name, words in (("phone", "needs PyAV"), ("babble", "has one speaker")):
        for measure in ("ΔUAR", "ΔUAP", "unchanged"):
            assert (rows[name, measure]["verdict"], rows[name, measure]["value"]) == ("not run", None)
            assert words in rows[name, measure]["reason"]
    assert rows["sex", "|ΔUAR|"]["verdict"] == "not applicable"
    told = stress.stress([student()], alone, conditions=("phone",))
    assert [each["name"] for each in told["conditions"]] == ["clean"]
    assert any("no phone: amr of codec needs PyAV" in note for note in told["notes"])


def test_the_page_has_every_test_and_says_what_was_synthesised(certified, tmp_path):
    page = stress.page(certified)
    assert "s: " in page
    assert page.count("| robustness |") == 2 * sum(test.group == "robustness" for test in TESTS)
    assert "cough, sneeze, music, environment: synthesised." in page
    assert "microphone not run: needs the same speech" in page
    written = stress.write(certified, tmp_path)
    assert json.loads(written[0].read_text())["students"][0]["certificate"]["passed"] > 0


# A user's recordings


def wav(path, seconds=0.3, level=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(
        path, level * rng(zlib.crc32(path.name.encode())).standard_normal(int(seconds * RATE)), RATE
    )


def test_folders_of_recordings_take_the_place_of_their_kind_alone(corpus, tmp_path):
    for number in range(3):
        wav(tmp_path / "cough" / "deep" / f"{number}.wav")
    wav(tmp_path / "music" / "long.flac", seconds=40)
    (tmp_path / "music" / "notes.txt").write_text("no recording")
    found = read_noises(tmp_path)
    assert {kind: len(each) for kind, each in found.items()} == {"cough": 3, "music": 1}
    assert len(found["music"][0]) == 30 * RATE
    few = dataclasses.replace(corpus, utterances=corpus.utterances[:14])
    assert stress.certify([student()], few, noises=found)["sounds"] == {
        "cough": "3 recordings of the user", "sneeze": "synthesised",
        "music": "1 recording of the user", "environment": "synthesised",
    }  # fmt: skip
    assert read_noises(None) == {}


def test_noises_are_what_a_folder_stands_for_elsewhere_and_no_more_is_read_than_is_kept(
    tmp_path, monkeypatch
):
    wav(tmp_path / "music" / "hours.wav", seconds=150)
    whole = audio.read(tmp_path / "music" / "hours.wav")
    (tmp_path / "music" / "._hours.wav").write_bytes(b"a Mac's")
    (tmp_path / "music" / "folder.wav").mkdir()
    wav(tmp_path / "music" / "a.wav", seconds=0.1)
    (tmp_path / "music" / "a.wav").rename(tmp_path / "music" / "a.M4A")  # it is told by its content
    blocks, count = audio.blocks, []

    def counted(path):
        for block in blocks(path):
            count.append(len(block))
            yield block

    monkeypatch.setattr(audio, "blocks", counted)
    short, kept = read_noises(tmp_path)["music"]
    assert (len(short), sum(count) < 100 * RATE) == (RATE // 10, True)
    np.testing.assert_array_equal(kept, whole[: 30 * RATE])


def test_of_many_recordings_some_are_drawn_by_the_seed(tmp_path):
    for number in range(MOST + 15):
        wav(tmp_path / "sneeze" / f"{number}.wav", seconds=0.01)
    first, again, other = (read_noises(tmp_path, seed=seed)["sneeze"] for seed in (0, 0, 1))
    assert len(first) == MOST
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(UserError, match="is no folder: --noises takes one with cough/"):
        read_noises(tmp_path / "no")
    with pytest.raises(UserError, match=r"expected one or more of cough/, sneeze/"):
        read_noises(tmp_path)
    (tmp_path / "cough").mkdir()
    with pytest.raises(UserError, match=r"no recordings in .*cough or below it"):
        read_noises(tmp_path)
    (tmp_path / "cough" / "a.wav").write_bytes(b"RIFF0000WAVE")
    with pytest.raises(UserError, match=r"a\.wav .*[a-z)]\. Mend or remove it"):
        read_noises(tmp_path)
    wav(tmp_path / "cough" / "a.wav", level=0)
    with pytest.raises(UserError, match=r"a\.wav is silent"):
        read_noises(tmp_path)
    assert {*NOISES} == {"cough", "sneeze", "music", "environment"}


# As a user gives it


def test_certify_ends_with_its_verdict_and_1_where_a_test_failed(corpus, tmp_path, monkeypatch, capsys):
    from light_sernet_kd.analysis.stress import StressInputs

    few = corpus.utterances[:28]
    for runner, code in ((Constant(), 1), (Levels(), 0)):
        monkeypatch.setattr(
            stress, "files_on", lambda *a, r=runner, **k: StressInputs([student(r)], corpus, few, ["a note"])
        )
        if code == 0:  # keep what such a student passes
            kept = tuple(test for test in TESTS if test.measure in ("UAR", "recall"))
            monkeypatch.setattr(certificate, "TESTS", kept)
        assert cli.main(["stress", "x.tflite", "--on", "demo", "--certify"]) == code
        printed = capsys.readouterr().out.strip().splitlines()
        assert "tests passed" in printed[-1]
        assert "a note." in printed


def test_mistakes_are_one_line(tmp_path, capsys):
    for arguments, words in (
        (["--certify", "--conditions", "phone"], "--certify has conditions of its own"),
        (["--noises", str(tmp_path / "no")], "is no folder"),
        (["--noises", str(tmp_path)], "has no folder of noises"),
    ):
        assert cli.main(["stress", "x.tflite", "--on", "demo", *arguments]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert words in lines[0]
