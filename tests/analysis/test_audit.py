"""The audit: what training and test of a fold share."""

import dataclasses
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from light_sernet_kd import cli, teachers
from light_sernet_kd.analysis import audit
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data.protocols import Fold

RATE = 16_000


def utterance(name: str, speaker: str, **facts) -> Utterance:
    return Utterance(name, Path(f"{name}.wav"), "fear", speaker, **facts)


UTTERANCES = [
    utterance("a1", "a", session="1", dialog="1x", transcript="yes"),
    utterance("a2", "a", session="1", dialog="1y", transcript="no"),
    utterance("b1", "b", session="1", dialog="1x", transcript="yes"),
    utterance("c1", "c", session="2", dialog="2x", transcript="never"),
    utterance("d1", "d"),
]
PRINTS = {each.id: f"hash of {each.id}" for each in UTTERANCES}


def one(fold: Fold, *, prints=PRINTS, pairs=(), teacher=None) -> audit.FoldAudit:
    (found,) = audit.audit([fold], UTTERANCES, prints, pairs, teacher)
    return found


def test_what_a_fold_shares_worked_by_hand():
    found = one(Fold("b", train=(0, 1, 3), validation=(4,), test=(2,)))
    assert (found.train, found.validation, found.test) == (3, 1, 1)
    assert found.speakers == ()
    assert found.sessions == ("1",)
    assert found.dialogs == ("1x",)
    assert found.transcripts == ("yes",)
    assert found.leaks == ["1 session shared", "1 dialog shared"]


def test_a_fair_fold_leaks_nothing_and_shared_sentences_are_no_leak():
    assert one(Fold("d", train=(0, 1, 2), validation=(3,), test=(4,))).leaks == []
    spoken = [utterance("x", "a", transcript="yes"), utterance("y", "b", transcript="yes")]
    prints = {"x": "1", "y": "2"}
    (found,) = audit.audit([Fold("b", (0,), (), (1,))], spoken, prints, [])
    assert found.transcripts == ("yes",)
    assert found.leaks == []


def test_what_is_unknown_on_both_sides_is_not_shared():
    # c1 and d1 name no transcript or session in common; d1 names none at all
    found = one(Fold("x", train=(4,), validation=(), test=(3,)))
    assert (found.sessions, found.dialogs, found.transcripts) == ((), (), ())


def test_the_test_set_that_chooses_the_epoch_is_a_leak():
    assert one(Fold("c", (0, 1), (3,), (3,))).leaks == ["the test set chooses the epoch"]


def test_identical_and_near_identical_recordings_count_once_as_what_they_are():
    fold = Fold("x", train=(0, 1), validation=(4,), test=(2, 3))
    prints = PRINTS | {"a1": "same", "b1": "same"}
    found = one(fold, prints=prints, pairs=[(0, 2), (1, 3), (3, 4)])
    assert found.identical == ("b1",)
    assert found.near_identical == ("c1",)
    # whichever of the pair comes first
    assert one(Fold("x", (2, 3), (4,), (0, 1)), pairs=[(0, 2)]).near_identical == ("a1",)


def teacher(train_speakers, folds=()) -> teachers.Teacher:
    logits = np.zeros((len(folds) or 1, 1, 2), np.float32)
    return teachers.Teacher(("a1",), ("x", "y"), logits, folds, {"train_speakers": train_speakers})


def test_a_teacher_is_asked_for_the_speakers_of_each_fold():
    fold = Fold("c", (0, 1), (2,), (3,))
    assert one(fold, teacher=teacher({"c": ["a"]}, ("c",))).leaks == []
    assert one(fold, teacher=teacher({"c": ["a", "c"]}, ("c",))).leaks == ["the teacher was trained on c"]
    assert one(fold, teacher=teacher({"all-speakers": ["c"]})).leaks == ["the teacher was trained on c"]
    unknown = one(fold, teacher=teacher({}))
    assert unknown.teacher_speakers is None
    assert unknown.leaks == ["the teacher's training speakers are not known"]


def test_stamps_name_what_no_protocol_says():
    fair = one(Fold("d", (0, 1, 2), (3,), (4,)))
    assert audit.stamps([fair]) == []
    session = one(Fold("b", (0, 1), (3,), (2,)))
    assert audit.stamps([fair, session]) == [
        "optimistic: training shares sessions with the test speakers in 1 fold",
        "optimistic: training shares dialogs with the test speakers in 1 fold",
    ]
    twins = one(Fold("x", (0, 1), (), (4, 3)), prints=PRINTS | {"a1": "s", "d1": "s"}, pairs=[(1, 3)])
    assert audit.stamps([twins, twins]) == [
        "optimistic: 2 test recordings also occur in training",
        "optimistic: 2 test recordings have a near-identical twin in training",
    ]
    # the protocol that shares speakers says so by itself
    assert audit.stamps([one(Fold("01", (0,), (4,), (1,)))]) == []


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"], ids=["empty", "error page"])
def test_identical_files_of_two_speakers_that_are_no_recordings_are_no_leak(tmp_path, capsys, content):
    from light_sernet_kd import cli

    rows = ["path,emotion,speaker"]
    for speaker in "abcd":
        for number, emotion in enumerate(("anger", "fear")):
            path = tmp_path / f"{speaker}{number}.wav"
            rng = np.random.default_rng([ord(speaker), number])
            soundfile.write(path, 0.1 * rng.standard_normal(16_000), 16_000)
            rows.append(f"{path.name},{emotion},{speaker}")
    for name in ("a0", "c1"):
        (tmp_path / f"{name}.wav").write_bytes(content)
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    assert cli.main(["audit", str(tmp_path / "m.csv")]) == 2
    told = capsys.readouterr().err
    assert "2 of 8 recordings cannot be used" in told
    assert "a0.wav is " in told
    assert "c1.wav is " in told
    assert "identical recordings" not in told
    assert "same speaker" not in told


# The table


def shown(*audits: audit.FoldAudit) -> str:
    console = Console(file=io.StringIO(), width=140)
    audit.show(audits, console, protocol="loso", description="leave one speaker out")
    return console.file.getvalue()


# Two corpora, and the command


def written(folder: Path, name: str, speakers, *, emotions=("anger", "fear"), seed=0) -> Path:
    """A manifest of made recordings, an emotion each; no two of them are alike."""
    folder.mkdir(exist_ok=True)
    lines = ["path,emotion,speaker"]
    for number, (speaker, emotion) in enumerate(itertools.product(speakers, emotions)):
        random = np.random.default_rng([seed, number])
        level = np.interp(np.linspace(0, 1, 8000), np.linspace(0, 1, 9), random.uniform(0.01, 0.3, 9))
        path = f"{name}-{number}.wav"
        soundfile.write(folder / path, level * random.normal(size=8000), RATE, subtype="FLOAT")
        lines.append(f"{path},{emotion},{speaker}")
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / f"{name}.csv"


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    return {
        "one": written(folder, "one", ("03", "08", "zoë")),
        "two": written(folder, "two", ("3", "ZOE\u0308", "b"), seed=1),
        "others": written(folder, "others", ("c", "d"), seed=2),
    }


def test_speakers_of_one_name_in_two_manifests_may_be_one_person(tables, capsys):
    command = ["audit", str(tables["one"]), "--test-on", str(tables["two"])]
    assert cli.main(command) == 1
    out = capsys.readouterr().out
    assert "2 speaker names are in both corpora, and may be the same people: 3, ZOË" in out
    assert "(if not: --different-speakers)" in out
    assert "nothing leaks" not in out
    assert cli.main([*command, "--json"]) == 1
    (fold,) = json.loads(capsys.readouterr().out)
    assert fold["same_names"] == ["3", "ZO\u00cb"]
    assert cli.main([*command, "--different-speakers"]) == 0
    assert "nothing leaks" in capsys.readouterr().out
    # The one that tests may have a name alone.
    assert cli.main(["audit", str(tables["others"]), "--test-on", str(tables["two"])]) == 0
    assert cli.main(["audit", str(tables["one"]), "--different-speakers"]) == 2
    assert "it goes with --test-on" in capsys.readouterr().err


def test_numbers_in_two_corpora_known_by_name_are_different_people_and_those_of_a_manifest_may_be():
    corpus = Corpus(
        "EMO-DB → RAVDESS",
        (
            utterance("EMO-DB/x", "EMO-DB/03", split="train"),
            utterance("RAVDESS/x", "RAVDESS/03", split="test"),
            utterance("RAVDESS/y", "RAVDESS/04", split="test"),
        ),
    )
    assert audit.named_alike(corpus, "EMO-DB", "RAVDESS") == ()
    assert audit.named_alike(corpus, "emo-db", "ravdess") == ()
    for one, other in (("x/EMO-DB.csv", "RAVDESS"), ("EMO-DB", "RAVDESS.csv"), ("EMO-DB.csv", "RAVDESS.csv")):
        assert audit.named_alike(corpus, one, other) == ("03",)
    # A corpus of its own has no second one.
    assert audit.named_alike(Corpus("one", UTTERANCES), "one.csv", "") == ()


def test_names_in_both_corpora_are_a_stamp_on_every_result():
    fair = one(Fold("split", (0, 1, 2), (3,), (4,)))
    named = [dataclasses.replace(fair, same_names=("03", "08"))]
    assert audit.stamps(named) == [
        "perhaps optimistic: 2 speaker names are in both corpora, and may be the same people: 03, 08 "
        "(if not: --different-speakers)"
    ]
    many = [dataclasses.replace(fair, same_names=tuple("abcdefg"))]
    assert "a, b, c, d, e and 2 more (if not" in audit.stamps(many)[0]
    single = [dataclasses.replace(fair, same_names=("03",))]
    assert "the speaker name 03 is in both corpora, and may be the same person" in audit.stamps(single)[0]


def test_audit_leaves_out_what_cannot_be_read_where_it_is_told_to(tables, tmp_path, capsys):
    table = written(tmp_path, "bad", ("a", "b", "c", "d"))
    (tmp_path / "bad-0.wav").write_bytes(b"")
    (tmp_path / "bad-3.wav").unlink()
    assert cli.main(["audit", str(table)]) == 2
    capsys.readouterr()
    assert cli.main(["audit", str(table), "--skip-bad"]) == 0
    out, err = capsys.readouterr()
    assert "6 utterances" in out
    assert err.count("left out: ") == 2
    assert "bad-0.wav is empty (0 bytes)" in err
    for path in tmp_path.glob("*.wav"):
        path.unlink()
    assert cli.main(["audit", str(table), "--skip-bad"]) == 2
    assert "8 of 8 recordings cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"ids": [f"x{n}" for n in range(6)]},
            "the teacher fits none of 6 utterances. Its ids are x0, x1, x2",
        ),
        ({"classes": ["ang", "x"]}, "the teacher names other classes: ang, x; the corpus has anger, fear."),
        ({"folds": ["03", "08"]}, "the teacher has no outputs for fold zoë"),
        ({"ids": [f"one-{n}.wav" for n in range(6)]}, "without the suffix, such as one-0 for one-0.wav"),
    ],
)
def test_a_teacher_that_train_would_refuse_is_refused_by_audit(tables, tmp_path, capsys, change, message):
    arrays = {"ids": [f"one-{n}" for n in range(6)], "classes": ["anger", "fear"], **change}
    shape = (len(arrays.get("folds", [""])), 6, 2)
    logits = np.random.default_rng(0).normal(size=shape if "folds" in arrays else shape[1:])
    np.savez(tmp_path / "t.npz", logits=logits, **arrays)
    assert cli.main(["audit", str(tables["one"]), "--teacher", str(tmp_path / "t.npz")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_a_teacher_that_fits_is_audited(tables, tmp_path, capsys):
    ids = [f"one-{n}" for n in range(6)]
    np.savez(tmp_path / "t.npz", ids=ids, classes=["fear", "anger"], logits=np.zeros((6, 2)))
    assert cli.main(["audit", str(tables["one"]), "--teacher", str(tmp_path / "t.npz")]) == 1
    assert "the teacher's training speakers are not known" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "random", "--seed", "-1"], "seed must be from 0 to 4294967295, found -1."),
        (["--protocol", "random", "--seed", str(2**32)], "seed must be from 0 to 4294967295, found"),
        (["--fold_count", "0"], "fold count must be above 0, found 0."),
        (["--protocol", "loso", "--test-on", "EMO-DB"], "--test-on means the protocol cross_corpus,"),
        (["--protocol", "cross_corpus"], "the protocol cross_corpus takes --test-on CORPUS."),
    ],
)
def test_what_train_would_refuse_is_refused_by_audit(capsys, options, message):
    assert cli.main(["audit", "demo", *options]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_a_teacher_of_one_corpus_is_asked_for_its_speakers_by_their_own_names():
    spoken = [utterance("one/x", "one/a"), utterance("two/y", "two/a"), utterance("two/z", "two/b")]
    fold = Fold("split", (0,), (), (1, 2))
    for corpus, seen in (("two", ("two/a",)), ("one", ())):
        taught = dataclasses.replace(
            teacher({"all-speakers": ["a"]}),
            card={"corpus": corpus, "train_speakers": {"all-speakers": ["a"]}},
        )
        (found,) = audit.audit([fold], spoken, {each.id: each.id for each in spoken}, [], taught)
        assert found.teacher_speakers == seen
        stamp = (teachers.STAMP_SEEN,) if seen else ()
        assert teachers.stamps(taught, [fold], spoken) == stamp


def test_the_table_names_what_leaks():
    text = shown(one(Fold("b[/]", (0, 1), (3,), (2,)), prints=PRINTS | {"a1": "s", "b1": "s"}))
    assert "fold b[/]: 1 session shared; 1 dialog shared; 1 identical recording shared" in text
    assert "  identical: b1" in text
    assert "nothing leaks" not in text


def test_the_table_of_fair_folds_says_so():
    text = shown(one(Fold("d", (0, 1, 2), (3,), (4,))))
    assert "nothing leaks from test to training" in text
