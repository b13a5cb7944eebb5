"""Stressed students: whose recordings they hear, what is counted, what is said and written of it."""

import csv
import dataclasses
import itertools
import json
import math
import zlib
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from drawings import assert_legible, shown
from exported_cases import CLASSES, made_case, with_list
from sklearn.metrics import balanced_accuracy_score

from light_sernet_kd import cli
from light_sernet_kd.analysis import degradations, stress
from light_sernet_kd.analysis.stress import Part, Student, certificate, running
from light_sernet_kd.analysis.stress import students as opening
from light_sernet_kd.analysis.stress.choosing import spread
from light_sernet_kd.analysis.stress.summary import SPEECHLESS_DRAWS
from light_sernet_kd.analysis.stress.tables import conditions_table, side_by_side
from light_sernet_kd.corpora import Corpus, Utterance, demo
from light_sernet_kd.corpora.registry import load
from light_sernet_kd.data.protocols import Fold, propose_folds
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.degradations import BABBLE_TALKERS, CONDITIONS
from light_sernet_kd.reporting import figures

RATE = 16_000
FEW = ("white 10 dB", "babble", "gain", "telephone")


class Loudness:
    """A student that hears levels: the louder, the later the class; `noisy` ones are called the last."""

    inputs, sample_rate, text, precision = ("audio",), RATE, None, "int8"
    samples = RATE

    def __init__(self, labels=("a", "b", "c"), card=None, confidence=0.9):
        self.labels, self.card, self.confidence = labels, card or {}, confidence
        self.heard = []

    def probabilities(self, waveform):
        self.heard.append(waveform)
        level = degradations.power_dbfs(waveform)
        index = int(np.digitize(level, [-30, -20])) if level > -90 else 0
        found = np.full(len(self.labels), (1 - self.confidence) / (len(self.labels) - 1), np.float32)
        found[index] = self.confidence
        return found


def student(runner=None, name="s", ids=None, heard=None) -> Student:
    return Student(name, (Part(runner or Loudness(), ids),), "trained elsewhere", heard)


LEVELS = {"a": -40.0, "b": -25.0, "c": -10.0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """Five speakers with four recordings of each of three classes, told apart by their level."""
    folder = tmp_path_factory.mktemp("levels")
    utterances = []
    for speaker in "ABCDE":
        for emotion, dbfs in LEVELS.items():
            for number in range(4):
                name = f"{speaker}-{emotion}-{number}"
                noise = np.random.default_rng(zlib.crc32(name.encode())).uniform(-1, 1, RATE // 2)
                noise *= np.where(np.arange(RATE // 2) % 4000 < 2000, 1, 0.3)  # not as steady as noise
                sound = noise / np.sqrt(np.mean(noise**2)) * 10 ** (dbfs / 20)
                soundfile.write(folder / f"{name}.wav", sound, RATE, subtype="FLOAT")
                sex = {"A": "female", "B": "female", "C": "male", "D": "male"}.get(speaker)
                utterances.append(Utterance(name, folder / f"{name}.wav", emotion, speaker, sex=sex))
    return Corpus("levels", tuple(utterances))


@pytest.fixture(scope="module")
def stressed(corpus) -> dict:
    return stress.stress([student()], corpus, conditions=("gain", "white", "clipped"))


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stress")
    return made_case("light_sernet", "lsn", "mfcc", 12_001, folder, precisions=("int8", "float32"))


def by_condition(stressed: dict, number: int = 0) -> dict[str, dict]:
    return {row["condition"]: row for row in stressed["students"][number]["conditions"]}


# What is counted


def test_what_a_gain_does_to_a_student_that_hears_levels_is_known(stressed):
    rows = by_condition(stressed)
    assert rows["clean"]["ua"] == rows["clean"]["wa"] == 1
    # 12 dB louder: -40, -25 and -10 become -28, -13 and, cut at full scale, about 0: b, c and c.
    assert rows["gain +12 dB"]["recall_per_class"] == {"a": 0, "b": 0, "c": 1}
    assert rows["gain +12 dB"]["answers"] == {"a": 0, "b": 20, "c": 40}
    # 12 dB quieter: -52, -37 and -22 become a, a and b.
    assert rows["gain -12 dB"]["recall_per_class"] == {"a": 1, "b": 0, "c": 0}
    for name in ("gain +12 dB", "gain -12 dB"):
        change = rows[name]["to_clean"]["ua"]
        assert change["difference"] == pytest.approx(-2 / 3)
        assert change["interval"] == pytest.approx([-2 / 3, -2 / 3])  # all speakers alike
    assert rows["clean"]["mean_top_probability"] == pytest.approx(0.9)


def test_scores_of_classes_speakers_and_sexes_are_those_of_their_recordings(corpus):
    # It takes speaker A's and D's for something else, and nobody else's.
    class Biased(Loudness):
        def probabilities(self, waveform):
            found = super().probabilities(waveform)
            return np.roll(found, 1) if len(self.heard) <= 12 or 36 < len(self.heard) <= 48 else found

    row = by_condition(stress.stress([student(Biased())], corpus, conditions=("clean",)))["clean"]
    assert {name: each["ua"] for name, each in row["per_speaker"].items()} == {
        "A": 0, "B": 1, "C": 1, "D": 0, "E": 1,
    }  # fmt: skip
    assert {name: (each["ua"], each["count"]) for name, each in row["per_sex"].items()} == {
        "female": (0.5, 24), "male": (0.5, 24),
    }  # fmt: skip
    assert row["ua"] == row["wa"] == pytest.approx(0.6)
    low, high = row["intervals"]["ua"]
    assert low < 0.6 < high
    assert row["recall_per_class"] == pytest.approx({"a": 0.6, "b": 0.6, "c": 0.6})


def test_an_answer_below_the_cards_threshold_is_unsure_and_still_counts(corpus):
    for card, share in (({}, 0.0), ({"unsure_below": 0.95}, 1.0), ({"unsure_below": 0.6}, 0.0)):
        told = stress.stress([student(Loudness(card=card))], corpus, conditions=("clean",))
        assert told["students"][0]["unsure_below"] == card.get("unsure_below", 0.5)
        row = by_condition(told)["clean"]
        assert (row["unsure"], row["ua"]) == (share, 1)
        assert row["wa_of_sure"] == (None if share else 1)


def test_silence_and_noise_are_unsure_whatever_the_student_says(stressed):
    rows = {row["clip"]: row for row in stressed["students"][0]["without_speech"]}
    assert {name: (row["unsure"], row["unheard"]) for name, row in rows.items()} == {
        "zeros": (1, 1), "faint noise": (1, 1), "white noise": (1, 1), "pink noise": (1, 1),
    }  # fmt: skip
    assert rows["zeros"]["count"] == 1  # it is always the same clip
    assert rows["faint noise"]["answers"] == {"a": SPEECHLESS_DRAWS}


@pytest.mark.parametrize(("dbfs", "silent"), [(-20, False), (-109.9, False), (-110.1, True), (-200, True)])
def test_what_is_heard_is_silent_by_its_level_about_the_mean(dbfs, silent):
    tone = math.sqrt(2) * 10 ** (dbfs / 20) * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)
    tone *= 2 * (np.arange(RATE) < RATE / 4)  # what is as steady as noise is kept out anyway
    assert stress.is_unheard((0.2 + tone).astype(np.float64), samples=RATE) == silent
    # Padding is not heard, nor what lies beyond the clip's ends.
    assert stress.is_unheard(tone, samples=5 * RATE) == silent
    loud_ends = np.concatenate([np.ones(RATE), tone, -np.ones(RATE)])
    assert stress.is_unheard(loud_ends, samples=RATE) == silent


def test_every_condition_is_heard_by_every_student_as_it_was_made(corpus):
    first, other = Loudness(), Loudness()
    few = corpus.utterances[:3]
    stress.stress([student(first), student(other, "t")], corpus, tested=few, conditions=FEW)
    names = stress.conditions_of(FEW)
    assert len(first.heard) == 3 * len(names) + 1 + 3 * SPEECHLESS_DRAWS
    for one, two in zip(first.heard, other.heard, strict=True):
        np.testing.assert_array_equal(one, two)
    clean, _ = soundfile.read(few[1].path, dtype="float32")
    np.testing.assert_array_equal(first.heard[len(names)], clean)
    np.testing.assert_allclose(
        first.heard[len(names) + names.index("gain -12 dB")], clean * 10 ** (-12 / 20), rtol=1e-6
    )


def test_a_second_student_is_paired_with_the_first_under_each_condition(corpus):
    told = stress.stress(
        [student(), student(Loudness(confidence=0.2), "unlike")], corpus, conditions=("gain", "telephone")
    )
    first, other = by_condition(told), by_condition(told, 1)
    assert "to_first" not in first["clean"]
    for name, row in other.items():
        expected = row["ua"] - first[name]["ua"]
        assert row["to_first"]["ua"]["difference"] == pytest.approx(expected)
    # At a confidence of 0.2 of three classes it says anything but what the level says.
    assert other["clean"]["to_first"]["ua"]["difference"] == -1
    table = side_by_side(told)
    assert table.header == ["condition", "s", "Δ clean", "unlike", "Δ clean", "Δ s", "95 %"]
    assert table.cells()[0] == ["clean", "100.0", "+0.0", "0.0", "+0.0", "-100.0", "-100.0 to -100.0"]


# Folds of a run


def test_each_folds_student_hears_its_own_test_recordings_alone(corpus):
    ids = {name: frozenset(u.id for u in corpus.utterances if u.speaker == name) for name in "ABC"}
    runners = {name: Loudness() for name in ids}
    folds = stress.of_folds("run", [Part(runners[name], ids[name]) for name in ids], ["optimistic"])
    told = stress.stress([folds], corpus, conditions=("gain -12 dB",))
    assert (told["students"][0]["utterances"], told["students"][0]["speakers"]) == (36, 3)
    assert told["students"][0]["heard_in_training"] is False
    for runner in runners.values():
        assert len(runner.heard) == 2 * 12 + 1 + 3 * SPEECHLESS_DRAWS
    assert by_condition(told)["clean"]["ua"] == 1
    assert "STAMP: optimistic" in stress.heads(told)
    assert told["students"][0]["without_speech"][1]["count"] == 3 * SPEECHLESS_DRAWS


def test_a_recording_that_two_folds_test_counts_twice(corpus):
    ids = frozenset(each.id for each in corpus.utterances[:12])
    folds = stress.of_folds("run", [Part(Loudness(), ids), Part(Loudness(), ids)])
    told = stress.stress([folds], corpus, conditions=("clean",))
    assert by_condition(told)["clean"]["count"] == 24
    assert told["students"][0]["utterances"] == 12


# Classes by name


def test_classes_are_matched_by_name_and_what_is_not_in_both_is_told(corpus):
    told = stress.stress([student(Loudness(labels=("b", "c", "zeal")))], corpus, conditions=("clean",))
    row = by_condition(told)["clean"]
    # b is -25 dBFS, the middle of three levels, where this student says c; c is the loudest: zeal.
    assert row["answers"] == {"b": 0, "c": 20, "zeal": 20}
    assert row["recall_per_class"] == {"b": 0, "c": 0, "zeal": None}
    assert row["count"] == 40
    assert "s does not know, and is not tested on: 20 of a" in told["notes"]
    assert "s may also answer zeal, which is not there, and is then wrong" in told["notes"]
    with pytest.raises(UserError, match=r"^s tells apart joy, zeal; levels has a, b, c here: none in common"):
        stress.stress([student(Loudness(labels=("joy", "zeal")))], corpus)


# Which recordings


def test_a_limit_takes_as_many_of_each_emotion_evenly_over_the_speakers(corpus):
    few = stress.limited(corpus.utterances, 5, seed=3)
    assert Counter((each.emotion, each.speaker) for each in few) == Counter(
        (emotion, speaker) for emotion in "abc" for speaker in "ABCDE"
    )
    assert few == stress.limited(tuple(reversed(corpus.utterances)), 5, seed=3)[::-1]
    assert few != stress.limited(corpus.utterances, 5, seed=4)
    assert {*few} < {*stress.limited(corpus.utterances, 7, seed=3)}
    assert stress.limited(corpus.utterances, 99) == corpus.utterances


def test_babble_is_of_other_speakers_and_as_many_as_there_are(corpus):
    pool = running._read_pool(spread(corpus.utterances, running.POOL, 0), {})
    assert Counter(speaker for speaker, _, _ in pool) == dict.fromkeys("ABCDE", 12)
    own = {name: sound.tobytes() for _, name, sound in pool}
    for utterance in corpus.utterances[:13:4]:
        heard = [next(n for n in own if own[n] == t.tobytes()) for t in running._talkers(utterance, pool, 0)]
        assert len({*heard}) == BABBLE_TALKERS
        speakers = Counter(name[0] for name in heard)
        assert utterance.speaker not in speakers
        assert set(speakers.values()) <= {1, 2}
        assert len(speakers) == 4


def test_one_speaker_has_no_babble(corpus):
    alone = dataclasses.replace(
        corpus, utterances=tuple(each for each in corpus.utterances if each.speaker == "A")
    )
    told = stress.stress([student()], alone, conditions=("babble", "gain"))
    assert [each["name"] for each in told["conditions"]] == ["clean", "gain +12 dB", "gain -12 dB"]
    assert "no babble: levels has one speaker, and babble is of others" in told["notes"]
    assert by_condition(told)["clean"]["intervals"] == {}


def test_the_same_seed_gives_the_same_and_an_utterance_does_not_depend_on_the_others(corpus):
    names = ("white 0 dB", "babble 0 dB", "room")
    runs = []
    for tested, seed in (
        (corpus.utterances[:4], 1),
        (corpus.utterances[2:5], 1),
        (corpus.utterances[2:5], 2),
    ):
        runner = Loudness()
        told = stress.stress([student(runner)], corpus, tested=tested, conditions=names, seed=seed)
        runs.append((told, runner.heard))
    count = len(stress.conditions_of(names))
    for one, two in zip(runs[0][1][2 * count : 4 * count], runs[1][1][: 2 * count], strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(runs[1][1][1], runs[2][1][1])
    again = stress.stress([student()], corpus, tested=corpus.utterances[:4], conditions=names, seed=1)
    assert again == runs[0][0]


def test_conditions_are_named_one_by_one_or_by_their_kind():
    assert stress.conditions_of(["speed", "white 10 dB"]) == [
        "clean", "white 10 dB", "speed +5 %", "speed -5 %",
    ]  # fmt: skip
    assert stress.conditions_of([]) == [name for name, each in CONDITIONS.items() if each.by_default]
    assert len(stress.conditions_of([])) == 20, "what is named by nobody costs what it did"
    assert stress.conditions_of(["tilt", "cough"]) == ["clean", "cough 10 dB", "tilt up", "tilt down"]
    with pytest.raises(UserError, match=r"unknown condition .telefone.\. Did you mean telephone\?"):
        stress.conditions_of(["telefone"])


def test_broken_recordings_are_all_named_or_left_out(corpus, tmp_path):
    broken = list(corpus.utterances)
    for place in (3, 17):
        path = tmp_path / f"{broken[place].id}.wav"
        path.write_bytes(broken[place].path.read_bytes()[:1000])
        broken[place] = dataclasses.replace(broken[place], path=path)
    damaged = dataclasses.replace(corpus, utterances=tuple(broken))
    for names in (("gain",), ("babble",)):
        runner = Loudness()
        with pytest.raises(UserError, match=r"^2 of 60 recordings cannot be used:(.|\n)*--skip-bad"):
            stress.stress([student(runner)], damaged, conditions=names)
        assert runner.heard == []  # it is said before the work, not behind it
        told = stress.stress([student()], damaged, conditions=names, skip_bad=True)
        assert [each["id"] for each in told["left_out"]] == ["A-a-3", "B-b-1"]
        assert by_condition(told)["clean"]["count"] == 58
        assert by_condition(told)["clean"]["ua"] == 1
        assert any("cut short" in line for line in stress.heads(told))
    # One that only babble is made of, too; without babble nothing of it is heard, and nothing is wrong.
    others = damaged.utterances[4:12]
    runner = Loudness()
    with pytest.raises(UserError, match=r"^2 of 60 recordings cannot be used:"):
        stress.stress([student(runner)], damaged, tested=others, conditions=("babble",))
    assert runner.heard == []
    told = stress.stress([student()], damaged, tested=others, conditions=("babble",), skip_bad=True)
    assert by_condition(told)["clean"]["count"] == len(others)
    assert stress.stress([student()], damaged, tested=others, conditions=("gain",))["left_out"] == []
    with pytest.raises(UserError, match=r"^no recording of levels is left: 1 of 1 recordings"):
        stress.stress(
            [student()], damaged, tested=damaged.utterances[3:4], conditions=("gain",), skip_bad=True
        )


# What is known of the student


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> list[Utterance]:
    """Four made recordings of each of two speakers, with the classes of the exported file."""
    folder = tmp_path_factory.mktemp("spoken")
    found = []
    for number, (speaker, sentence) in enumerate(itertools.product(("s1", "s2"), tuple(demo.SENTENCES)[:4])):
        path = folder / f"{speaker}-{sentence}.wav"
        soundfile.write(path, demo.synthesise(speaker, sentence, "anger"), RATE)
        found.append(Utterance(path.stem, path, CLASSES[number % len(CLASSES)], speaker))
    return found


@pytest.mark.parametrize(
    ("trains", "tests", "heard", "words"),
    [
        (slice(0, 8), slice(0, 8), True, "TRAINED ON 8 of these 8 recordings"),
        (slice(0, 8), slice(2, 6), True, "TRAINED ON 4 of these 4 recordings"),
        (slice(2, 4), slice(0, 4), True, "TRAINED ON 2 of these 4 recordings (identical or near-identical "
         "ones): the scores are in part those of training material, not of new speakers; 2 others are of"),
        (slice(0, 4), slice(4, 8), False, "none of these 4 recordings was found among those that it was "
         "trained on (whole ones are compared: parts, other speeds and mixtures are not looked for)"),
        (None, slice(0, 4), None, "not checked whether it was trained on these recordings"),
    ],
)  # fmt: skip
def test_whether_a_student_knows_the_recordings_is_said_and_written(
    case, spoken, tmp_path, trains, tests, heard, words
):
    (path,) = (each.path for each in case.exported if each.precision == "int8")
    if trains is not None:
        path = with_list(path, tmp_path, spoken[trains], corpus="spoken", origin="")
    # A corpus of another name, and one of which a part is tested.
    for name, corpus in (("mysubset", spoken[tests]), ("spoken", spoken)):
        whole = Corpus(name, tuple(corpus))
        (found,) = stress.open_students([path], whole, tested=spoken[tests])
        assert found.trained_on is heard
        assert words in found.trained
        assert ("stress the run's folder" in found.trained) is (heard is True)
    told = stress.stress([found], whole, tested=spoken[tests], conditions=("gain -12 dB",))
    page = stress.page(told)
    assert words.replace("(", r"\(").replace(")", r"\)") in page or words in page
    assert told["students"][0]["heard_in_training"] is heard


def test_footnotes_name_the_columns_as_the_table_does(stressed):
    notes = " ".join(stress.footnotes(stressed))
    for column in ("WA of sure %", "unsure %", "mean p"):
        assert column in conditions_table(stressed["students"][0]).header
        assert f"{column.removesuffix(' %')}: " in notes


# What is written


def test_the_files_agree_and_are_the_same_bytes_again(stressed, tmp_path):
    written = stress.write(stressed, tmp_path / "one")
    assert [path.name for path in written] == [
        f"stress.{kind}" for kind in ("json", "csv", "md", "png", "svg", "pdf")
    ]
    assert json.loads(written[0].read_text()) == stressed
    with open(written[1], newline="") as file:
        rows = list(csv.DictReader(file))
    told = by_condition(stressed)
    whole = {row["condition"]: row for row in rows if row["group"] == "all"}
    assert list(whole) == list(told)
    for name, row in whole.items():
        assert float(row["ua"]) == told[name]["ua"]
        assert float(row["ua_low"]) == told[name]["intervals"]["ua"][0]
        assert float(row["ua_to_clean"]) == told[name]["to_clean"]["ua"]["difference"]
        assert float(row["unsure"]) == told[name]["unsure"]
    groups = Counter(row["group"] for row in rows)
    assert groups == {"all": 8, "class": 24, "speaker": 40, "sex": 16, "without speech": 4}
    page = written[2].read_text()
    for name in told:
        assert f"\n| {name} | {100 * told[name]['ua']:.1f} |" in page
    assert "![What each condition costs](stress.png)" in page
    assert "levels does not tell the sex of the speakers of 12 utterances." in page
    again = stress.write(stressed, tmp_path / "two")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(p.name for p in written)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_no_text_of_the_picture_is_clipped_or_overlaps(drawn, count):
    classes = ["anger", "boredom", "disgust", "fear", "overwhelmed with it", "sadness", "zeal"]
    # One student may have a certificate, of more conditions; others are beside one another.
    played = certificate.conditions() if count == 1 else stress.conditions_of([])
    conditions = [(name, CONDITIONS[name].kind) for name in played]
    generator = np.random.default_rng(0)
    students = [
        {
            "name": f"student_precision{number}.tflite",
            "classes": classes,
            "ua": 0.7,
            "changes": [
                {"difference": -0.3, "interval": [-0.5, 0.1] if number else None} for _ in conditions
            ],
            "recalls": generator.random((len(conditions), 7)).tolist(),
        }
        for number in range(count)
    ]
    students[0]["recalls"][2][3] = None
    title = "What degraded sound costs on EMO-DB (synthetic)"
    figures.stress(students, conditions, "x", title=title, stamps=["trained on these recordings"])
    texts = shown(drawn[0])
    assert {"–", *played, "trained on these recordings"} <= {text for text, _, _ in texts}
    assert_legible(drawn[0])


# As a user gives it


def run(*arguments: object) -> int:
    return cli.main(["stress", *map(str, arguments)])


def test_real_files_on_a_part_of_emo_db(case, shared_data, tmp_path, capsys):
    command = [case.paths["int8"], case.paths["float32"], "--on", "emo-db", "--data", shared_data]
    command += ["--limit", 3, "--speakers", "03,08,09", "--conditions", "clean,telephone,babble 0 dB"]
    assert run(*command, "--json", "--out", tmp_path / "out") == 0
    told = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "out" / "stress.json").read_text()) == told
    # Of our classes EMO-DB has four.
    assert told["students"][0]["classes"] == list(CLASSES)
    assert told["students"][0]["utterances"] == 12
    assert any("is not tested on: 3 of disgust, 3 of fear, 3 of happiness" in note for note in told["notes"])
    corpus = load("EMO-DB", shared_data)
    few = stress.limited([u for u in corpus.utterances if u.speaker in ("03", "08", "09")], 3)
    for number, precision in enumerate(("int8", "float32")):
        opened = stress.open_part(case.paths[precision]).runner
        known = [each for each in few if each.emotion in CLASSES]
        answers = [
            CLASSES[opened.probabilities(soundfile.read(each.path, dtype="float32")[0]).argmax()]
            for each in known
        ]
        expected = balanced_accuracy_score([each.emotion for each in known], answers)
        assert by_condition(told, number)["clean"]["ua"] == pytest.approx(expected)
    assert run(*command) == 0
    printed = capsys.readouterr().out
    assert "UA % side by side" in printed
    assert "telephone" in printed
    assert "by sex" in printed
    assert "not checked whether it was trained on these recordings" in printed


def test_mistakes_are_one_line(case, shared_data, tmp_path, capsys):
    file = case.paths["int8"]
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(file.read_bytes()[:20_000])
    here = ["--data", shared_data]
    for arguments, words in (
        ([file], "--on is missing: name the corpus"),
        ([file, "--on", "EMO-BD", *here], "unknown corpus 'EMO-BD'. Did you mean EMO-DB?"),
        ([bare, "--on", "EMO-DB", *here], "lacks its card"),
        ([tmp_path / "no.tflite", "--on", "EMO-DB", *here], "No such file"),
        ([file, file, "--on", "EMO-DB", *here], "a file is named twice"),
        ([tmp_path, "--data", shared_data], "holds no finished run"),
        ([file, "--on", "EMO-DB", "--speakers", "99", *here], "unknown speaker '99'"),
        ([file, "--on", "EMO-DB", "--folds", "99", *here], "unknown fold '99'"),
        ([file, "--on", "EMO-DB", "--protocol", "loso", *here], "--protocol says whose folds"),
        ([file, "--on", "EMO-DB", "--precision", "int8", *here], "--precision is of a run's folder"),
        ([file, "--on", "EMO-DB", "--limit", "0", *here], "--limit must be at least 1"),
        ([file, "--on", "EMO-DB", "--seed", "-1", *here], "--seed must be 0 or more"),
        ([file, "--on", "EMO-DB", "--conditions", "noise", *here], "unknown condition 'noise'"),
    ):
        assert run(*arguments) == 2, arguments
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert words in lines[0]


@pytest.fixture
def tested_ids(monkeypatch):
    """What would have been tested, in place of the work."""

    def stopped(students, corpus, *, tested, **settings):
        told["students"], told["ids"] = students, [each.id for each in tested]
        raise UserError("enough")

    told = {}
    monkeypatch.setattr(stress, "stress", stopped)
    return told


@pytest.mark.parametrize(
    ("settings", "seeds"), [({}, (3, 5)), ({"protocol": "random", "seed": 7, "corpus": "EMO-DB"}, (7, 7))]
)
def test_folds_of_a_file_are_its_runs_and_no_seed_redraws_them(
    case, shared_data, tmp_path, tested_ids, settings, seeds
):
    file = tmp_path / "student_int8.tflite"
    file.write_bytes(case.paths["int8"].read_bytes())
    options = ["--on", "EMO-DB", "--data", shared_data, "--folds", "02"]
    if settings:
        (tmp_path / "config.json").write_text(json.dumps({"settings": settings}))
    else:
        options += ["--protocol", "random"]
    utterances = load("EMO-DB", shared_data).utterances
    for given, seed in zip((3, 5), seeds, strict=True):
        assert run(file, *options, "--seed", given) == 2
        fold = propose_folds("random", utterances, seed=seed)[1]
        assert tested_ids["ids"] == [utterances[i].id for i in fold.test]


@pytest.fixture
def runs(case, corpus, tmp_path, monkeypatch):
    """Two runs of one folder's name, whose only fold tests speaker A; files instead of conversions."""
    from light_sernet_kd import experiment
    from light_sernet_kd.analysis.stress import subjects
    from light_sernet_kd.data import run_folder

    test = tuple(i for i, each in enumerate(corpus.utterances) if each.speaker == "A")
    settings = {"corpus": "levels", "test_on": None, "protocol": "loso"}
    monkeypatch.setattr(
        subjects,
        "read_run",
        lambda path: run_folder.Run(path.name, {"stamps": []}, settings, SimpleNamespace(classes=("a", "b"))),
    )
    selection = SimpleNamespace(corpus=corpus, utterances=corpus.utterances)
    monkeypatch.setattr(
        experiment,
        "fold_files",
        lambda path, to, precisions, **rest: (
            selection,
            [(Fold("A", (), (), test), {each: case.paths[each] for each in precisions})],
        ),
    )
    folders = [tmp_path / name / "run" for name in ("one", "two")]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def test_students_of_runs_have_names_that_tell_them_apart(runs, tested_ids, capsys):
    def names(*arguments):
        assert run(*arguments) == 2
        return [each.name for each in tested_ids["students"]]

    assert names(runs[0]) == ["run int8"]
    assert names(runs[0], "--precision", "int8,INT8,float32,int8") == ["run int8", "run float32"]
    assert names(*runs) == [f"{folder} int8" for folder in runs]


def test_speakers_that_no_fold_tests_are_named_with_those_that_are(runs, tested_ids, capsys):
    assert run(runs[0], "--speakers", "A") == 2
    assert {name[0] for name in tested_ids["ids"]} == {"A"}
    for speakers in ("B,D", "A,B,D"):
        capsys.readouterr()
        assert run(runs[0], "--speakers", speakers) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line == "light-sernet-kd: no recording of B, D is tested here: name some of A."


def test_a_student_that_tests_none_of_what_is_chosen_says_so(corpus):
    own = frozenset(each.id for each in corpus.utterances if each.speaker == "B")
    with pytest.raises(UserError, match=r"^run tests none of the 12 recordings chosen: choose others"):
        stress.stress([student(name="run", ids=own)], corpus, tested=corpus.utterances[:12])


@pytest.mark.parametrize(
    ("inputs", "text", "words"),
    [
        (
            ("audio", "token_ids", "text_mask"),
            "it reads",
            "x.tflite takes text beside audio: stress degrades",
        ),
        (("token_ids", "text_mask"), "it reads", "x.tflite takes text: stress degrades"),
        (("text_states", "audio_states"), None, "x.tflite takes states of encoders: stress degrades"),
    ],
)
def test_a_student_that_does_not_hear_alone_is_refused(monkeypatch, inputs, text, words):
    class Reader(Loudness):
        def __init__(self, path):
            self.inputs, self.text = inputs, text

    monkeypatch.setattr(opening, "Runner", Reader)
    with pytest.raises(UserError, match=words):
        stress.open_part("x.tflite")


def test_folds_choose_their_test_speakers(case, shared_data, capsys):
    arguments = ["--on", "EMO-DB", "--data", shared_data, "--conditions", "clean", "--limit", "1", "--json"]
    assert run(case.paths["int8"], *arguments, "--folds", "08,16") == 0
    told = json.loads(capsys.readouterr().out)
    assert {*by_condition(told)["clean"]["per_speaker"]} <= {"08", "16"}
    assert "tested are the test recordings of folds 08, 16 (loso)." in stress.heads(told)
