"""What decided the second head: variants of it on the folds of a finished run, of speakers that may decide.

    python train.py -dn EMO-DB -kd pure --no-export --run robust
    python benchmarks/enrolled_head.py result/robust --folds 03,08,09,10,11

Prints UA in % against how many recordings of the test speaker are known, as `loso_enrolled` scores them.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from light_sernet_kd import evaluation
from light_sernet_kd.config import RunOptions, make_settings
from light_sernet_kd.data import feature_cache
from light_sernet_kd.data.protocols import select
from light_sernet_kd.data.run_folder import read_run
from light_sernet_kd.distillation.distiller import embedding_of
from light_sernet_kd.experiment.fold import read_test_logits
from light_sernet_kd.experiment.networks.phases import phases_of
from light_sernet_kd.experiment.shared import Experiment
from light_sernet_kd.reporting.display import Display
from light_sernet_kd.students.enrolled import pooled_stages
from light_sernet_kd.training import enrolled
from light_sernet_kd.training.network import load_student


def means(student: keras.Model) -> list[Any]:
    return [keras.ops.mean(each, axis=(1, 2)) for each in enrolled.stages(student)]


@dataclass(frozen=True)
class Variant:
    """What is tried: what the head hears, and constants of `training.enrolled` that are others."""

    taken: Callable[[keras.Model], list[Any]] = enrolled.stages
    constants: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "last vector": Variant(lambda student: [embedding_of(student)]),
    "means": Variant(means),
    "means and last vector": Variant(lambda student: [*means(student), embedding_of(student)]),
    "means and deviations": Variant(),
    "penalty 10 times": Variant(constants={"PENALTY": 0.1}),
    "penalty a tenth": Variant(constants={"PENALTY": 10.0}),
    "prior of 1": Variant(constants={"PRIOR_CLIPS": 1.0}),
    "prior of 10": Variant(constants={"PRIOR_CLIPS": 10.0}),
    "trained with 10 alone": Variant(constants={"CLIPS": (10,)}),
}


def answers(run: Experiment, fold: Any, variant: Variant) -> evaluation.FoldAnswers:
    """The fold's student with the variant's head."""
    student = run.step(fold).read("student.keras", load_student)
    taken = variant.taken(student)
    shapes = [tuple(each.shape[1:]) for each in taken]
    network = keras.Model(student.inputs, taken)
    rows = phases_of(run, "student")[-1].rows

    def heard(chosen: Sequence[int]) -> np.ndarray:
        blocks = [
            keras.ops.convert_to_numpy(pooled_stages(_listed(network.predict_on_batch(rows[block]))))
            for start in range(0, len(chosen), feature_cache.BATCH)
            for block in [np.asarray(chosen)[start : start + feature_cache.BATCH]]
        ]
        return np.concatenate(blocks)

    speakers = [run.utterances[row].speaker for row in fold.train]
    labels = run.selection.labels
    head = enrolled.fit_head(
        heard(fold.train), labels[list(fold.train)], speakers, shapes, len(run.classes), seed=0
    )
    return evaluation.FoldAnswers(
        labels=labels[list(fold.test)],
        speakers=np.array([run.utterances[row].speaker for row in fold.test]),
        strict=read_test_logits(run, fold)["selected"].argmax(axis=1),
        embeddings=heard(fold.test),
        logits=head.logits,
        others=np.zeros((1, len(head.mean)), np.float32),
    )


def _listed(outputs: Any) -> list[Any]:
    return outputs if isinstance(outputs, list) else [outputs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--folds", type=lambda text: text.split(","), default=[])
    parser.add_argument("variants", nargs="*", choices=[*VARIANTS, []])
    arguments = parser.parse_args()
    settings = make_settings(**read_run(arguments.run).settings)
    options = RunOptions(data=arguments.data, result=arguments.run.parent, run=arguments.run.name)
    run = Experiment(settings, options, arguments.run, Display(verbose=0))
    for name in arguments.variants or VARIANTS:
        plain = {key: getattr(enrolled, key) for key in VARIANTS[name].constants}
        for key, value in VARIANTS[name].constants.items():
            setattr(enrolled, key, value)
        tested = [answers(run, fold, VARIANTS[name]) for fold in select(run.folds, arguments.folds)]
        curve = evaluation.enrolled_scores(tested, run.classes, settings.protocol)["curve"]
        for key, value in plain.items():
            setattr(enrolled, key, value)
        print("|", name, "|", " | ".join(f"{100 * row['ua']:.1f}" for row in curve), "|", flush=True)


if __name__ == "__main__":
    main()
