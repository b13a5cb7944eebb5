"""What tells the class without the voice is said; what is by chance or by nature is no warning."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from rich.console import Console
from scipy.stats import hypergeom

from light_sernet_kd import audio, cli
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data import confounds, prepare, signatures
from light_sernet_kd.data.confounds import Findings, RecordingFacts, dependence
from light_sernet_kd.data.protocols import Fold, propose_folds
from light_sernet_kd.runner import LEAST_DBFS

RATE = 16_000
CLASSES = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")


def corpus(table: dict[str, dict[str, int]], **facts) -> list[Utterance]:
    """speaker → emotion → number of utterances."""
    return [
        Utterance(f"{speaker}-{emotion}-{n}", Path("x.wav"), emotion, speaker, **facts)
        for speaker, row in table.items()
        for emotion, count in row.items()
        for n in range(count)
    ]


def even(speakers: int, each: int, classes=CLASSES) -> list[Utterance]:
    return corpus({f"s{n:02d}": dict.fromkeys(classes, each) for n in range(speakers)})


def facts_of(utterances, **changed) -> list[RecordingFacts]:
    """Facts alike but for level and length, which are as scattered as in real speech; `changed` by class."""
    random = np.random.default_rng(len(utterances))
    plain = [
        RecordingFacts(RATE, 1, "WAV PCM_16", 1 + random.gamma(4, 0.5), random.normal(-25, 5), 0.0)
        for _ in utterances
    ]
    return [
        fact._replace(**{name: value(each, fact) for name, value in changed.items()})
        for each, fact in zip(utterances, plain, strict=True)
    ]


# Classes and folds


# Of KEMDy20, in which most recordings are neutral, the rarest emotions have one or two speakers.
RARE = corpus(
    {
        "01": {"neutral": 20, "anger": 6},
        "02": {"neutral": 20, "anger": 6, "disgust": 4, "fear": 1},
        "03": {"neutral": 20, "anger": 6, "disgust": 7},
        "04": {"neutral": 20, "anger": 6},
        "05": {"neutral": 20, "anger": 6},
    }
)


def test_what_folds_lack_worked_by_hand():
    found = {each.fold: each for each in confounds.fold_classes(propose_folds("loso", RARE, seed=0), RARE)}
    # 02 tests and 03 validates: nobody is left who is disgusted or afraid
    assert found["02"].untrained == ("disgust", "fear")
    assert found["02"].untrained_tests == 5
    assert found["02"].untested == ()
    # 01 tests and 02 validates: 03 alone is disgusted, and fear is 02's alone wherever it is
    assert (found["01"].untrained, found["01"].untrained_tests) == (("fear",), 0)
    assert found["01"].one_speaker == ("disgust",)
    assert found["01"].untested == ("disgust", "fear")
    assert found["04"].few == {"fear": 1}
    assert (found["04"].one_speaker, found["04"].untrained) == ((), ())


def test_what_folds_lack_is_said_of_folds_alike_at_once():
    assert confounds.findings(propose_folds("loso", RARE, seed=0), RARE) == Findings(
        [
            "fold 02: training has none of disgust and fear; 5 test recordings cannot be right",
            "fold 01: training has none of fear",
            "2 folds (01, 03): training has disgust from one speaker only",
            "one speaker alone has fear (02): no other speaker can be tested on it",
        ],
        [
            "2 folds (04, 05): training has fewer than 5 recordings of fear",
            "fold 03: training has fewer than 5 recordings of disgust and fear",
            "3 folds (01, 04, 05): the test set has none of disgust and fear, "
            "so UA is the mean over the other classes",
            "fold 03: the test set has none of fear, so UA is the mean over the other classes",
        ],
    )


def test_a_fold_of_its_own_says_the_same_in_json():
    fold = next(each for each in propose_folds("loso", RARE, seed=0) if each.name == "02")
    (found,) = confounds.fold_classes([fold], RARE)
    assert json.loads(json.dumps(found.as_dict())) == {
        "fold": "02",
        "untrained": ["disgust", "fear"],
        "untrained_tests": 5,
        "one_speaker": [],
        "few": {},
        "untested": [],
        "warnings": ["training has none of disgust and fear; 5 test recordings cannot be right"],
        "notes": [],
    }


def test_many_folds_that_lack_classes_are_a_few_lines():
    random = np.random.default_rng(0)
    table = {
        f"{n:02d}": {"neutral": 9, **{c: 1 for c in CLASSES if random.random() < 0.03}} for n in range(80)
    }
    utterances = corpus(table)
    said = confounds.fold_findings(
        confounds.fold_classes(propose_folds("loso", utterances, seed=0), utterances)
    )
    assert 1 <= len(said.warnings) <= 6
    assert 1 <= len(said.notes) <= 6
    assert all(len(text) < 200 for text in [*said.warnings, *said.notes])


@pytest.mark.parametrize("seed", range(20))
def test_leaving_one_speaker_out_lacks_what_its_folds_lack(seed):
    random = np.random.default_rng(seed)
    table = {
        f"{n}": {c: int(random.integers(0, 4) * random.integers(0, 2)) for c in CLASSES[:4]} | {"x": 1}
        for n in range(random.integers(3, 8))
    }
    utterances = corpus(table)
    folds = confounds.fold_classes(propose_folds("loso", utterances, seed=0), utterances)
    lacking = [each for each in folds if each.untrained or each.one_speaker or each.few or each.untested]
    assert confounds.loso_classes(utterances) == lacking


def test_full_folds_and_small_corpora_whose_training_is_one_speaker_are_not_warned_of():
    for speakers in (3, 4, 10):
        utterances = even(speakers, 5)
        assert confounds.findings(propose_folds("loso", utterances, seed=0), utterances) == Findings([], [])


def test_a_class_that_no_fold_tests_is_not_in_the_score():
    fold = next(each for each in propose_folds("loso", RARE, seed=0) if each.name == "04")
    found = confounds.findings([fold], RARE)
    assert "no test recording is of disgust or fear: UA is the mean over 2 of 4 classes" in found.warnings


def test_a_class_of_one_sex_is_named_where_both_sexes_are_known():
    women = corpus({n: {"anger": 9, "fear": 9} for n in "abc"}, sex="female")
    men = corpus({n: {"anger": 9} for n in "def"}, sex="male")
    assert confounds.class_findings([*women, *men]).warnings == [
        "all recordings of fear are of female speakers"
    ]
    assert confounds.class_findings(women).warnings == []
    # Said once, though the sex is tied to the class too.
    assert confounds.fact_findings([*women, *men], facts_of([*women, *men])).warnings == []
    unknown = corpus({"g": {"fear": 9}})
    assert confounds.class_findings([*women, *men, *unknown]).warnings == []


def test_a_class_that_is_nearly_of_one_sex_is_tied_to_it():
    women = corpus({f"f{n}": {"anger": 9, "fear": 9} for n in range(6)}, sex="female")
    men = corpus({f"m{n}": {"anger": 9, "fear": n == 0} for n in range(6)}, sex="male")
    assert confounds.fact_findings([*women, *men], facts_of([*women, *men])).warnings == [
        "sex is tied to the class: male in 54 of 108 recordings of anger, in 1 of 55 of fear"
    ]


# Facts tied to a class


def tied(utterances, facts) -> list[str]:
    return confounds.fact_findings(utterances, facts).warnings


@pytest.mark.parametrize("share", [1.0, 0.6])
@pytest.mark.parametrize(
    ("what", "name", "value", "said"),
    [
        ("encoding", "encoding", "MP3 MPEG_LAYER_III", "MP3 MPEG_LAYER_III"),
        ("sample rate", "sample_rate", 8000, "8000 Hz"),
        ("channels", "channels", 2, "2 channels"),
        ("cut-off", "cut_hz", 3900.0, "nothing above 4.1 kHz"),
        ("length", "seconds", 0.9, "0.900 s"),
    ],
)
def test_a_value_that_one_class_has_is_a_warning(share, what, name, value, said):
    utterances = even(10, 10)
    kept = round(10 * share)

    def changed(each, fact):
        is_changed = each.emotion == "fear" and int(each.id.rpartition("-")[2]) < kept
        return value if is_changed else getattr(fact, name)

    assert tied(utterances, facts_of(utterances, **{name: changed})) == [
        f"{what} is tied to the class: {said} in {10 * kept} of 100 recordings of fear, "
        "in 0 of 600 of the rest"
    ]


def test_classes_of_two_sources_are_named_together_and_the_usual_value_only_where_needed():
    utterances = even(6, 10)
    from_elsewhere = ("boredom", "fear", "sadness")
    facts = facts_of(
        utterances, sample_rate=lambda each, _: 44_100 if each.emotion in from_elsewhere else 48_000
    )
    assert tied(utterances, facts) == [
        "sample rate is tied to the class: 44100 Hz in 180 of 180 recordings of boredom, fear and sadness, "
        "in 0 of 240 of the rest"
    ]
    # Each recording of a class in a rate of its own: it is the usual one that the class lacks.
    rates = iter(range(20_000, 30_000))
    facts = facts_of(utterances, sample_rate=lambda each, _: next(rates) if each.emotion == "fear" else RATE)
    assert tied(utterances, facts) == [
        "sample rate is tied to the class: 16000 Hz in 0 of 60 recordings of fear, in 360 of 360 of the rest"
    ]


def test_a_class_from_another_source_with_its_own_speakers_is_a_warning():
    ours = even(8, 5, CLASSES[:6])
    theirs = corpus({f"t{n}": {"sadness": 10} for n in range(4)})
    facts = [*facts_of(ours), *facts_of(theirs, encoding=lambda *_: "OGG VORBIS")]
    assert tied([*ours, *theirs], facts) == [
        "encoding is tied to the class: OGG VORBIS in 40 of 40 recordings of sadness, in 0 of 240 of the rest"
    ]


def test_a_few_odd_files_are_not_worth_a_word():
    utterances = even(2, 200)  # as TESS, two of whose 2,800 files are AIFF
    odd = {utterances[5].id, utterances[800].id}
    facts = facts_of(
        utterances,
        encoding=lambda each, _: "AIFF PCM_16" if each.id in odd else "WAV PCM_16",
        sample_rate=lambda each, _: 96_000 if each.id in odd else 24_414,
    )
    assert confounds.fact_findings(utterances, facts) == Findings([], [])


@pytest.mark.parametrize("unit", ["recording", "speaker"])
def test_random_codecs_rates_levels_and_lengths_are_not_warned_of(unit):
    """Of 200 corpora of each kind; a note is allowed once in a hundred, where chance looks like nature."""
    notes = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        # Speakers differ in how often they feel what.
        counts = {f"{n}": dict(zip(CLASSES, 1 + random.poisson(4, 7), strict=True)) for n in range(6)}
        utterances = corpus(counts, sex=None)
        speakers = [int(each.speaker) for each in utterances]
        share = random.uniform(0.1, 0.9)
        is_odd = (
            random.random(6)[speakers] < share if unit == "speaker" else random.random(len(speakers)) < share
        )
        shift = random.normal(0, 6, 6)[speakers]
        facts = [
            fact._replace(
                encoding="MP3 MPEG_LAYER_III" if odd else "WAV PCM_16",
                sample_rate=44_100 if odd else RATE,
                level_dbfs=fact.level_dbfs + louder,
            )
            for fact, odd, louder in zip(facts_of(utterances), is_odd, shift, strict=True)
        ]
        found = confounds.fact_findings(utterances, facts)
        assert found.warnings == [], seed
        notes += len(found.notes)
    assert notes <= 4


def test_two_speakers_of_different_codecs_and_moods_tell_no_class():
    # What one is taught by a speaker is no help with the other.
    utterances = corpus({"a": {"anger": 90, "fear": 10}, "b": {"anger": 20, "fear": 80}})
    assert tied(utterances, facts_of(utterances, encoding=lambda each, _: f"WAV {each.speaker}")) == []


@pytest.mark.parametrize("name", ["level_dbfs", "seconds"])
def test_a_natural_tie_is_a_note_and_a_source_apart_is_a_warning(name):
    utterances = even(10, 8)
    what, spread = {"level_dbfs": ("level", 5), "seconds": ("length", 1)}[name]

    def moved(by):
        return confounds.fact_findings(
            utterances,
            facts_of(
                utterances,
                **{
                    name: lambda each, fact: (
                        getattr(fact, name) + by * spread * {"fear": 1, "anger": 0.5}.get(each.emotion, 0)
                    )
                },
            ),
        )

    assert moved(0) == Findings([], [])
    natural = moved(2)
    assert natural.warnings == []
    assert natural.notes[0].startswith(f"{what} alone tells the class with UA ")
    assert natural.notes[0].endswith(" % (chance 14 %)")
    (warning,) = moved(6).warnings
    assert warning.startswith(f"{what} is tied to the class: it alone tells fear from the rest")


def test_several_classes_of_another_level_are_told_together_and_less_than_a_decibel_is_nothing():
    utterances = even(10, 8)

    def level(apart):
        return lambda each, _: -20.2 - apart * (each.emotion in CLASSES[:3])

    (warning,) = tied(utterances, facts_of(utterances, level_dbfs=level(12)))
    assert warning == (
        "level is tied to the class: it alone tells anger, boredom and disgust from the rest with a balanced "
        "accuracy of 100 % (medians -32.0 and -20.0 dBFS)"
    )
    assert tied(utterances, facts_of(utterances, level_dbfs=level(0.2))) == []


def test_facts_that_are_not_known_are_not_compared():
    utterances = even(4, 4)
    unknown = [RecordingFacts(RATE, 1, "WAV PCM_16", *[float("nan")] * 3) for _ in utterances]
    assert confounds.fact_findings(utterances, unknown) == confounds.fact_findings([], []) == Findings([], [])
    one = corpus({"a": {"anger": 9}})
    assert confounds.fact_findings(one, facts_of(one)) == Findings([], [])


def test_two_corpora_are_looked_at_one_by_one():
    # All of the tested corpus is MP3, and it has other shares of the classes than the trained one.
    train = corpus({f"a{n}": {"anger": 30, "fear": 10} for n in range(5)})
    test = corpus({f"b{n}": {"anger": 10, "fear": 30} for n in range(5)})
    both, fold = (
        [*train, *test],
        Fold("split", tuple(range(160)), tuple(range(160, 200)), tuple(range(200, 400))),
    )
    facts = [*facts_of(train), *facts_of(test, encoding=lambda *_: "MP3 MPEG_LAYER_III")]
    assert confounds.findings([fold], both, facts, tests_apart=True).warnings == []
    assert len(confounds.findings([fold], both, facts).warnings) == 1
    facts = [
        *facts_of(train, encoding=lambda each, _: "FLAC PCM_16" if each.emotion == "fear" else "WAV PCM_16"),
        *facts_of(test, encoding=lambda *_: "MP3 MPEG_LAYER_III"),
    ]
    assert confounds.findings([fold], both, facts, tests_apart=True).warnings == [
        "training recordings: encoding is tied to the class: FLAC PCM_16 in 50 of 50 recordings of fear, "
        "in 0 of 150 of anger"
    ]


def test_the_bound_is_above_the_probability_of_the_draw():
    random = np.random.default_rng(0)
    for _ in range(200):
        counts = random.integers(0, 12, (3, 2))
        size, total = counts.sum(axis=1), counts.sum()
        if not size.all():
            continue
        bound = np.exp(-dependence._surprise(counts.astype(float)))
        for c in range(3):
            draw = hypergeom(total, counts[:, 0].sum(), size[c])
            tail = min(draw.sf(counts[c, 0] - 1), draw.cdf(counts[c, 0]))
            assert tail <= bound[c, 0] + 1e-9


# Facts of real files


def noise(seed: int, seconds: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def through(waveform: np.ndarray, rate: int) -> np.ndarray:
    copy = soxr.resample(soxr.resample(waveform, RATE, rate), rate, RATE)
    return (np.rint(copy * 32768) / 32768).astype(np.float32)


def test_level_is_the_root_mean_square_about_the_mean():
    tone = np.sin(np.arange(RATE) * 2 * np.pi * 500 / RATE).astype(np.float32)
    assert confounds.level_and_cut(0.1 * tone + 0.3)[0] == pytest.approx(
        20 * np.log10(0.1 / np.sqrt(2)), abs=0.01
    )
    assert confounds.level_and_cut(np.zeros(RATE, np.float32))[0] == LEAST_DBFS
    assert confounds.level_and_cut(np.zeros(0, np.float32))[0] == LEAST_DBFS


@pytest.mark.parametrize(
    ("rate", "lowest", "highest"), [(8000, 3600, 4100), (11_025, 5000, 5600), (12_000, 5500, 6100)]
)
def test_where_the_frequencies_end_is_found_at_any_length(rate, lowest, highest):
    for seconds in (0.02, 1, 90):
        assert lowest < confounds.level_and_cut(through(noise(1, seconds), rate))[1] < highest
    assert confounds.level_and_cut(noise(1))[1] == 0
    assert np.isnan(confounds.level_and_cut(1e-4 * noise(1))[1])  # too quiet to tell


def test_speech_that_was_never_converted_ends_nowhere_and_copies_do(shared_data):
    paths = sorted((shared_data / "EMO-DB" / "wav").glob("*.wav"))[::20]
    speech = [audio.read(path) for path in paths]
    assert not any(confounds.level_and_cut(each)[1] > 0 for each in speech)
    found = Counter(round(confounds.level_and_cut(through(each, 8000))[1] / 1000) for each in speech)
    assert found == {4: len(speech)}


def test_a_header_says_what_decoding_says(tmp_path):
    waveform = np.stack([noise(1), noise(2)], axis=1)
    for name in ("a.wav", "b.flac", "c.mp3", "d.ogg", "e.aiff"):
        soundfile.write(tmp_path / name, waveform, 44_100)
        recording = audio.decode(tmp_path / name)
        assert audio.header(tmp_path / name) == (44_100, 2, recording.encoding)
    (tmp_path / "f.wav").write_bytes(b"")
    with pytest.raises(audio.AudioError, match="is empty"):
        audio.header(tmp_path / "f.wav")


def test_facts_are_kept_with_the_signatures(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1), 8000)
    soundfile.write(tmp_path / "b.mp3", noise(2), RATE)
    files = [Utterance(name, tmp_path / name, "fear", name) for name in ("a.wav", "b.mp3")]
    prints = {"a.wav": "1", "b.mp3": "2"}
    first = signatures.measure(files, prints, tmp_path / "cache").facts
    assert [each[:3] for each in first] == [(8000, 1, "WAV PCM_16"), (RATE, 1, "MP3 MPEG_LAYER_III")]
    assert first[0].seconds == pytest.approx(2)
    assert 3600 < first[0].cut_hz < 4100
    assert signatures.measure(files, prints, tmp_path / "cache").facts == first
    assert len(list((tmp_path / "cache").iterdir())) == 1


# The commands


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A manifest of 4 speakers: sadness is of 8 kHz, anger is MP3, and only two speakers are afraid."""
    folder = tmp_path_factory.mktemp("sources")
    lines = ["path,emotion,speaker"]
    random = np.random.default_rng(0)
    for speaker in ("s0", "s1", "s2", "s3"):
        for emotion in ("anger", "fear", "neutral", "sadness"):
            for n in range(6 if emotion != "fear" or speaker in ("s0", "s1") else 0):
                rate = 8000 if emotion == "sadness" else RATE
                name = f"{speaker}{emotion}{n}.{'mp3' if emotion == 'anger' else 'wav'}"
                waveform = random.normal(0, random.uniform(0.05, 0.2), round(random.uniform(0.4, 0.6) * rate))
                soundfile.write(folder / name, waveform, rate)
                lines.append(f"{name},{emotion},{speaker}")
    (folder / "sources.csv").write_text("\n".join(lines) + "\n")
    return folder / "sources.csv"


TIED = [
    "sample rate is tied to the class: 8000 Hz in 24 of 24 recordings of sadness, in 0 of 60 of the rest",
    "encoding is tied to the class: MP3 MPEG_LAYER_III in 24 of 24 recordings of anger, "
    "in 0 of 60 of the rest",
]


def test_prepare_says_what_tells_the_class(sources, tmp_path, capsys):
    assert cli.main(["prepare", str(sources)]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = [
        "fold s0 of loso: training has none of fear; 6 test recordings cannot be right",
        "2 folds of loso (s1, s3): training has fear from one speaker only",
        *TIED,
    ]
    assert [line for line in lines if line.startswith("warning: ")] == [
        f"warning: {text}" for text in expected
    ]
    assert cli.main(["prepare", str(sources), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["warnings"], value["notes"]) == (expected, [])
    # Converted, all are 16-bit WAVs: what was so before is said then, and what is left of it is heard.
    assert cli.main(["prepare", str(sources), "--to", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert all(f"warning: before the conversion, {text}\n" in out for text in TIED)
    assert cli.main(["prepare", str(tmp_path / "out" / "manifest.csv"), "--json"]) == 0
    assert [text for text in json.loads(capsys.readouterr().out)["warnings"] if "loso" not in text] == [
        "cut-off is tied to the class: nothing above 4.1 kHz in 24 of 24 recordings of sadness, "
        "in 0 of 60 of the rest",
        "cut-off is tied to the class: nothing above 7.5 kHz in 24 of 24 recordings of anger, "
        "in 0 of 60 of the rest",
    ]


def test_audit_says_what_tells_the_class_though_nothing_leaks(sources, capsys):
    assert cli.main(["audit", str(sources)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "nothing leaks from test to training" in lines
    assert [line for line in lines if line.startswith("warning: ")] == [
        "warning: fold s0: training has none of fear; 6 test recordings cannot be right",
        "warning: 2 folds (s1, s3): training has fear from one speaker only",
        *(f"warning: {text}" for text in TIED),
    ]
    assert lines[-1] == (
        "note: 2 folds (s2, s3): the test set has none of fear, so UA is the mean over the other classes"
    )
    assert cli.main(["audit", str(sources), "--json"]) == 0
    told = capsys.readouterr()
    folds = {each["fold"]: each for each in json.loads(told.out)}
    assert folds["s0"]["untrained"] == ["fear"]
    assert folds["s0"]["warnings"] == ["training has none of fear; 6 test recordings cannot be right"]
    assert folds["s2"]["warnings"] == []
    assert folds["s0"]["leaks"] == []
    assert told.err.splitlines() == [f"warning: {text}" for text in TIED]


def test_prepare_counts_what_it_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1), RATE)
    for name in ("b", "c"):
        (tmp_path / f"{name}.wav").write_bytes(b"")

    def shown(*names):
        utterances = tuple(Utterance(name, tmp_path / f"{name}.wav", "fear", "s") for name in names)
        console = Console(width=100, file=io.StringIO())
        prepare.show(prepare.inspect(Corpus("x", utterances)), console)
        return console.file.getvalue()

    assert "3 recordings (1 of them readable), 0.0 min; shortest 1.00 s" in shown("a", "b", "c")
    assert "identical" not in shown("b", "c")
    assert "2 recordings, none of them readable\n" in shown("b", "c")
