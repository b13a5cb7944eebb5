"""Runs of seconds on a small made corpus."""

import contextlib
import csv
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from light_sernet_kd import cli
from light_sernet_kd.corpora import demo

EMOTIONS = ("anger", "neutral", "sadness")
SPEAKERS = tuple(demo.SPEAKERS)[:3]
SENTENCES = tuple(demo.SENTENCES)[:3]
# Small enough to train in seconds, and every part of the real thing is there.
QUICK = ["-id", "1.2", "--width", "0.15", "--learning_rate", "3e-3", "--bn_momentum", "0.8", "-bt", "8"]


def made_corpus(
    folder: Path, speakers: Sequence[str] = SPEAKERS, sentences: Sequence[str] = SENTENCES
) -> Path:
    """A synthetic clip of each of these, by default 27, with each of 3 emotions; returns their manifest."""
    with open(folder / "small.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "emotion", "speaker"])
        for speaker in speakers:
            for sentence in sentences:
                for emotion in EMOTIONS:
                    name = f"{speaker}-{sentence}-{emotion}.wav"
                    soundfile.write(folder / name, demo.synthesise(speaker, sentence, emotion), 16000)
                    writer.writerow([name, emotion, speaker])
    return folder / "small.csv"


# Compiled networks for later tests whose runs are shallow, and how many: their graphs take memory.
_SHALLOW: dict = {}
MOST_KEPT = 16


@contextlib.contextmanager
def shallow_light_sernet() -> Iterator[None]:
    """Light-SERNet of one branch and two stages, where what happens around a network is tested.

    Tracing takes most of a short run, and most of it goes by layers.
    """
    from light_sernet_kd.experiment.networks import training as networks
    from light_sernet_kd.students import light_sernet

    whole = light_sernet.LIGHT_SERNET
    part = dataclasses.replace(whole, branches=whole.branches[:1], body=whole.body[-2:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(light_sernet, "LIGHT_SERNET", part)
        patch.setattr(networks, "_KEPT", _SHALLOW)  # the other holds networks that are whole
        yield
    for key in [*_SHALLOW][:-MOST_KEPT]:
        del _SHALLOW[key]


@contextlib.contextmanager
def rendered(*names: str) -> Iterator[None]:
    """Pictures with one of these in their names are drawn; the others are made as ever and left empty.

    To render them is about a quarter of a short run.
    """
    from matplotlib.figure import Figure

    save = getattr(Figure.savefig, "whole", Figure.savefig)

    def saved(figure, path, **how):
        stem = Path(path).name.lstrip(".").partition(".")[0]  # a temporary name has the final one's
        wanted = any(name in f"{stem}{Path(path).suffix}" for name in names)
        return save(figure, path, **how) if wanted else Path(path).touch()

    saved.whole = save  # within one that renders less
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", saved)
        yield


@contextlib.contextmanager
def no_graphs() -> Iterator[None]:
    """Networks run operation by operation: for a few batches that takes less time than to trace them."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Even though the .tf.config|The structure of .inputs")
            yield
    finally:
        tf.config.run_functions_eagerly(False)


def quicken_tensorflow() -> None:
    """Leave out what takes longer than a few batches save, or is told by messages alone.

    To optimise a graph takes up to a quarter of a short run. A variable without a name of its own is made in
    a third of the time, since TensorFlow prepares the operation that makes it anew for each name; Keras has
    names of its own.
    """
    import tensorflow as tf
    from tensorflow.python.ops import gen_resource_variable_ops

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    make = gen_resource_variable_ops.var_handle_op
    gen_resource_variable_ops.var_handle_op = lambda *arguments, debug_name="", **named: make(
        *arguments, **named
    )


def train(manifest: Path, result: Path, *arguments: str) -> int:
    return cli.main(["train", "-dn", str(manifest), *QUICK, "--result", str(result), "-v", "0", *arguments])


def error_of(capsys) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("light-sernet-kd: ")
    return lines[0]


def same_weights(first: Path, second: Path) -> bool:
    import keras

    pairs = zip(
        keras.saving.load_model(first, compile=False).get_weights(),
        keras.saving.load_model(second, compile=False).get_weights(),
        strict=True,
    )
    return all(np.array_equal(one, other) for one, other in pairs)


def check_answers(teacher_file: Path, copies: Path, *, atol: float) -> None:
    """Unlabelled copies of a corpus's recordings, each one clip, have the outputs of these.

    Of a training recording a probe's are cross-fitted, so those of the others count, in the first fold.
    """
    from light_sernet_kd import teachers
    from light_sernet_kd.data.unlabelled import survey
    from light_sernet_kd.teachers.unlabelled import read_beside

    teacher, found = teachers.read(teacher_file), survey(copies, 48_000)
    fold = teacher.folds[0]
    answers = read_beside(teacher_file, teacher, found.clips["content"], teacher.classes, fold)
    names = [Path(found.names[row]).stem for row in found.clips["recording"]]
    trained = teacher.card["train_speakers"][fold]
    clips = np.array([clip for clip, name in enumerate(names) if name.split("-")[0] not in trained])
    rows = [teacher.ids.index(names[clip]) for clip in clips]
    assert len(clips) == 18
    np.testing.assert_allclose(answers.logits[clips], teacher.logits[0][rows], atol=atol)
    embeddings = teacher.embeddings[0][rows]
    np.testing.assert_allclose(answers.embedding[clips], embeddings, atol=atol)
