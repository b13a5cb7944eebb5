"""Which networks are trained together: those that see the same examples."""

from types import SimpleNamespace

import pytest

from light_sernet_kd.audio import augment
from light_sernet_kd.config import make_settings
from light_sernet_kd.experiment.networks.training import Training


def seen(role: str, *, front_end: str = "lsn", left_out: str = "", **settings):
    """What decides the examples of a role's network in such a run; `left_out` is of its augmentation."""
    pytest.importorskip("jax")
    from light_sernet_kd.experiment.sweeps.together import _seen

    chosen = make_settings(distillation="KD", front_end=front_end, **settings)
    kept = [each for each in augment.parse(chosen.augmentation or "") if each.name != left_out]
    run = SimpleNamespace(
        settings=chosen,
        front_end=front_end,
        augmentations=kept,
        soft_labels=None,
        corpus_digest="1",
        classes=(),
    )
    return _seen(Training(run, role, None))


def test_a_teacher_is_grouped_by_the_front_end_that_it_hears_through():
    own = [seen("teacher", front_end=name, teacher="resnet18") for name in ("lsn", "robust")]
    assert own[0] == own[1]
    assert own[0] != seen("student", teacher="resnet18")
    # One of the student's kind hears what the student does.
    assert seen("teacher", teacher="auto") != seen("teacher", teacher="auto", front_end="robust")
    assert seen("teacher", teacher="auto") == seen("teacher-2", teacher="resnet18", student="resnet18")


def test_students_are_grouped_by_the_augmentation_that_is_left():
    both = {"augmentation": "gain,babble"}
    assert seen("student", **both) == seen("student", augmentation=" gain , babble:chance=0.5 ")
    assert seen("student", **both) != seen("student", left_out="babble", **both)
    assert seen("student", augmentation="gain") == seen("student", left_out="babble", **both)
    assert seen("teacher", teacher="auto", **both) == seen("teacher", teacher="auto")
