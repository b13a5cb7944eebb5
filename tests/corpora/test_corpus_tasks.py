"""Tasks: which emotions are told apart, and what becomes of the others."""

from collections import Counter
from pathlib import Path

import pytest

from light_sernet_kd.corpora import Corpus, Utterance, registry, tasks
from light_sernet_kd.corpora.tasks import Task
from light_sernet_kd.errors import UserError


def made(*emotions: str, soft_label=None) -> Corpus:
    return Corpus("made", tuple(
        Utterance(f"u{n:02}", Path(f"u{n:02}.wav"), emotion, "s1", soft_label=soft_label)
        for n, emotion in enumerate(emotions)
    ), left_out={"noise": 2})  # fmt: skip


CORPUS = made("anger", "calm", "calm", "excitement", "happiness", "neutral", "surprise")


def restricted(*texts: str, corpus: Corpus = CORPUS) -> Corpus:
    return tasks.restrict(corpus, tasks.check(tasks.parse(texts), corpus))


def counts(corpus: Corpus) -> Counter:
    return Counter(utterance.emotion for utterance in corpus.utterances)


def test_names_are_kept_and_merges_counted_as_their_target():
    corpus = restricted("anger", "Neutral", "excitement=happiness", "calm = neutral")
    assert counts(corpus) == {"anger": 1, "neutral": 3, "happiness": 2}
    assert corpus.merged == {"excitement": "happiness", "calm": "neutral"}
    assert corpus.left_out == {"noise": 2, "surprise, which is not in the task": 1}


def test_merges_alone_keep_every_emotion():
    corpus = restricted("excitement=happiness")
    assert counts(corpus) == {"anger": 1, "calm": 2, "happiness": 2, "neutral": 1, "surprise": 1}
    assert corpus.left_out == {"noise": 2}


def test_a_merge_may_name_a_canonical_emotion_that_does_not_occur():
    assert counts(restricted("anger", "surprise=fear")) == {"anger": 1, "fear": 1}


def test_no_task_changes_nothing():
    assert tasks.restrict(CORPUS, tasks.parse(())) is CORPUS


@pytest.mark.parametrize("repeats", [1, 2])
def test_saying_a_thing_twice_says_it_once(repeats):
    assert tasks.parse(["anger", "calm=neutral"] * repeats) == Task(("anger", "neutral"), {"calm": "neutral"})


def test_soft_labels_are_merged_and_raised_to_a_sum_of_one():
    shares = {"anger": 0.1, "excitement": 0.2, "happiness": 0.1, "fear": 0.6}
    corpus = made("anger", "happiness", "excitement", "fear", soft_label=shares)
    found = restricted("anger", "excitement=happiness", corpus=corpus)
    assert found.utterances[0].soft_label == {
        "anger": pytest.approx(0.25), "happiness": pytest.approx(0.75),
    }  # fmt: skip
    # merging alone changes no sum
    merged = restricted("excitement=happiness", corpus=corpus).utterances[0].soft_label
    assert merged == {
        "anger": pytest.approx(0.1),
        "fear": pytest.approx(0.6),
        "happiness": pytest.approx(0.3),
    }


def test_a_soft_label_of_which_nothing_remains_is_none():
    assert (
        restricted("anger", corpus=made("anger", soft_label={"fear": 1.0})).utterances[0].soft_label is None
    )


def test_an_unknown_emotion_gets_the_ones_that_occur():
    with pytest.raises(UserError) as caught:
        restricted("anger", "hapiness")
    assert str(caught.value) == (
        "unknown emotion of made 'hapiness'. Did you mean happiness? "
        "Valid: anger, calm, excitement, happiness, neutral, surprise."
    )
    with pytest.raises(UserError, match="unknown emotion of made 'fear'"):
        restricted("anger", "fear")
    with pytest.raises(UserError, match="unknown emotion of made 'fear'"):
        restricted("anger", "fear=anger")
    with pytest.raises(UserError, match=r"'neutrality'\. Did you mean neutral"):
        restricted("calm=neutrality")


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["excitement="], "found 'excitement='"),
        (["=happiness"], "found '=happiness'"),
        ([""], "found ''"),
        (["a=b=c"], "found 'a=b=c'"),
        (["calm=calm"], "calm cannot be counted as calm and as calm"),
        (["calm=neutral", "calm=anger"], "calm cannot be counted as neutral and as anger"),
        (["calm", "calm=neutral"], "calm cannot be kept and counted as neutral"),
        (["calm=neutral", "neutral=anger"], "say calm=anger"),
    ],
)
def test_what_contradicts_itself_is_refused(texts, told):
    with pytest.raises(UserError) as caught:
        tasks.parse(texts)
    assert told in str(caught.value)


def test_a_task_that_leaves_nothing_is_refused():
    with pytest.raises(UserError, match="made has no utterance with fear or sadness"):
        tasks.restrict(CORPUS, tasks.parse(["fear", "sadness"]))


def test_a_manifest_takes_a_task_too(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("path,emotion,speaker,dialog\na.wav,joy,s,d1\nb.wav,calm,s,\nc.wav,fear,s,\n")
    corpus = registry.load(str(path), tmp_path, emotions=("calm", "joy=happiness"))
    assert counts(corpus) == {"calm": 1, "happiness": 1}
    assert corpus.left_out == {"fear, which is not in the task": 1}
    assert [utterance.dialog for utterance in corpus.utterances] == ["d1", None]
    with pytest.raises(UserError, match=r"unknown emotion of list 'joi'. Did you mean joy\?"):
        registry.load(str(path), tmp_path, emotions=("joi",))
    assert "'joi'" in registry.why_absent(str(path), tmp_path, emotions=("joi",))


def test_the_usual_task_of_a_corpus_is_a_task():
    for source in registry.CORPORA.values():
        tasks.parse(source.emotions)
    assert tasks.parse(registry.CORPORA["IEMOCAP"].emotions) == Task(
        ("anger", "happiness", "neutral", "sadness"), {"excitement": "happiness"}
    )
