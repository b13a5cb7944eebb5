"""Ratings of arousal, valence and dominance: what a corpus tells, and on which scale."""

import re

import corpus_trees
import numpy as np
import pytest

from light_sernet_kd.corpora import Corpus, Utterance, across, dimension_values, iemocap, kemdy19, manifest
from light_sernet_kd.corpora.ratings import Ratings
from light_sernet_kd.corpora.registry import load
from light_sernet_kd.errors import UserError


def test_iemocap_rates_valence_activation_and_dominance_in_this_order(tmp_path):
    root = corpus_trees.iemocap(tmp_path / "IEMOCAP")
    labels = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    text = labels.read_text()
    rated = re.sub(r"(Ses01F_impro01_F000\t\w+\t)\[[^\]]*\]", r"\1[2.0000, 4.5000, 5.5000]", text)
    labels.write_text(rated)
    corpus = iemocap.utterances(root)
    first = next(each for each in corpus.utterances if each.id == "Ses01F_impro01_F000")
    assert first.dimensions == {"valence": 2.0, "arousal": 4.5, "dominance": 5.5}
    assert corpus.dimension_range == (1, 5)


def test_kemdy_rates_valence_and_arousal_under_total_evaluation(tmp_path):
    root = corpus_trees.kemdy19(tmp_path / "KEMDy19")
    table = root / "annotation/Session01_F_res.csv"
    lines = table.read_text().splitlines()
    blank, bad = lines[2].replace(",3.1,3.2,", ",,3.2,"), lines[3].replace(",3.1,3.2,", ",high,1.2,")
    table.write_text("\n".join([*lines[:2], blank, bad, *lines[4:]]) + "\n")
    corpus = kemdy19.utterances(root)
    ratings = {each.id: each.dimensions for each in corpus.utterances}
    # the tree's table has valence 3.1 and arousal 3.2
    assert ratings["Sess01_impro01_M001"] == {"valence": 3.1, "arousal": 3.2}
    assert ratings["Sess01_impro01_F001"] == {"arousal": 3.2}
    assert ratings["Sess01_impro01_F002"] == {"arousal": 1.2}
    assert any("line 4: expected a number for valence, found 'high'" in note for note in corpus.notes)
    assert corpus.dimension_range == (1, 5)


def rated_manifest(folder, *rows: str, header: str = "path,emotion,speaker,Activation,valence"):
    path = folder / "rated.csv"
    for number in range(len(rows)):
        corpus_trees.put(folder / f"{number}.wav")
    lines = [f"{number}.wav,anger,ann,{row}" for number, row in enumerate(rows)]
    return corpus_trees.put(path, "\n".join([header, *lines]) + "\n")


def test_a_manifests_columns_are_ratings_where_they_are_asked_for(tmp_path):
    path = rated_manifest(tmp_path, "1,7", '"2,5",', ",")
    corpus = manifest.utterances(path, dimensions=("arousal", "valence"), dimension_range=(1.0, 7.0))
    ratings = [each.dimensions for each in corpus.utterances]
    assert ratings == [{"arousal": 1.0, "valence": 7.0}, {"arousal": 2.5}, None]
    assert corpus.dimension_range == (1, 7)
    values = dimension_values(corpus.utterances, ("valence", "arousal"), (1, 7))
    np.testing.assert_allclose(values, [[1, -1], [np.nan, -0.5], [np.nan, np.nan]])


def test_what_no_dimension_is_asked_for_is_ignored_as_ever(tmp_path):
    corpus = manifest.utterances(rated_manifest(tmp_path, "loud,99", "1,2"))
    assert [each.dimensions for each in corpus.utterances] == [None, None]
    assert corpus.dimension_range is None


@pytest.mark.parametrize("cell", ["8", "0.5", "nan", "inf", "loud", "-3"])
def test_a_rating_outside_of_the_scale_is_refused_with_file_and_line(tmp_path, cell):
    path = rated_manifest(tmp_path, "3,3", f"3,{cell}")
    with pytest.raises(UserError) as error:
        manifest.utterances(path, dimensions=("arousal", "valence"), dimension_range=(1.0, 7.0))
    assert str(error.value).startswith(
        f"{path}, line 3: the valence must be a number from 1 to 7, found {cell}."
    )


def test_the_ends_of_a_manifests_scale_are_asked_for(tmp_path):
    path = rated_manifest(tmp_path, "3,3")
    with pytest.raises(
        UserError, match=r"rated.csv has the column Activation.* add --dimension_range LOW,HIGH"
    ):
        manifest.utterances(path, dimensions=("arousal",))


@pytest.mark.parametrize("ends", [None, (1.0, 5.0)])
def test_a_corpus_without_ratings_is_one_line_that_names_those_that_have_them(tmp_path, ends):
    path = rated_manifest(tmp_path, "3,3")
    with pytest.raises(UserError) as error:
        load(str(path), tmp_path, ratings=Ratings(("dominance",), ends))
    assert "rated has no ratings of dominance. IEMOCAP (arousal, valence, dominance), KEMDy19" in str(
        error.value
    )
    assert "\n" not in str(error.value)


def test_of_ratings_alone_every_rated_recording_is_taken(tmp_path):
    """Those too whose listeners agreed on no emotion."""
    root = corpus_trees.iemocap(tmp_path / "IEMOCAP")
    labels = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    text = labels.read_text()
    labels.write_text(re.sub(r"(Ses01F_impro01_F000\t)\w+", r"\1xxx", text))
    named = load("IEMOCAP", tmp_path, emotions=iemocap.EMOTIONS.values(), ratings=Ratings(("arousal",)))
    alone = load("IEMOCAP", tmp_path, ratings=Ratings(("arousal",), replace_emotions=True))
    assert alone.classes == ("rated",)
    missing = {each.id for each in alone.utterances} - {each.id for each in named.utterances}
    assert "Ses01F_impro01_F000" in missing
    assert sum(named.left_out.values()) == len(missing)
    assert not alone.left_out
    kemdy = corpus_trees.kemdy19(tmp_path / "KEMDy19")
    table = kemdy / "annotation/Session01_F_res.csv"
    lines = table.read_text().splitlines()
    tie = [
        *lines[:2],
        re.sub(
            r",(angry|sad|happy|neutral|fear|surprise|disgust|disqust),", ",angry;sad,", lines[2], count=1
        ),
    ]
    table.write_text("\n".join([*tie, *lines[3:]]) + "\n")
    with_classes = load("KEMDy19", tmp_path, ratings=Ratings(("arousal",)))
    alone = load("KEMDy19", tmp_path, ratings=Ratings(("arousal",), replace_emotions=True))
    assert len(alone.utterances) == len(with_classes.utterances) + sum(with_classes.left_out.values())
    assert with_classes.left_out


def test_of_ratings_alone_a_table_needs_no_emotions(tmp_path):
    path = rated_manifest(tmp_path, "1,7", ",", header="path,emotion,speaker,Activation,valence")
    path.write_text(path.read_text().replace("emotion", "colour"))
    ratings = Ratings(("arousal", "valence"), (1, 7), replace_emotions=True)
    corpus = load(str(path), tmp_path, ratings=ratings)
    assert [(each.id, each.emotion) for each in corpus.utterances] == [("0", "rated")]
    assert corpus.left_out == {"no rating of arousal or valence": 1}
    with pytest.raises(UserError, match="the header lacks emotion"):
        load(str(path), tmp_path, ratings=Ratings(("arousal", "valence"), (1, 7)))


def test_across_corpora_ratings_are_on_the_scale_of_the_one_that_trains():
    def corpus(name: str, ends: tuple[float, float], *arousals: float) -> Corpus:
        rows = [
            Utterance(f"{n}", f"{n}.wav", ("anger", "fear")[n], "ann", dimensions={"arousal": value})
            for n, value in enumerate(arousals)
        ]
        return Corpus(name, tuple(rows), dimension_range=ends)

    joined = across(corpus("one", (1, 5), 1, 2), corpus("other", (0, 1), 0.25, 1))
    assert [each.dimensions["arousal"] for each in joined.utterances] == [1, 2, 2, 5]
    assert joined.dimension_range == (1, 5)


def test_the_scale_of_a_corpus_that_tells_its_own_is_not_asked_for(tmp_path):
    with pytest.raises(UserError, match="--dimension_range says the ends of a manifest's scale"):
        load("KEMDy20", tmp_path, ratings=Ratings(("arousal",), (1.0, 5.0)))
