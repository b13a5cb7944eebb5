"""The student alone: the same training without a teacher, in a finished run beside the taught one."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from light_sernet_kd import evaluation, plugins
from light_sernet_kd.config import Settings, fields
from light_sernet_kd.config.settings import NOT_IN_DIGEST, SPEECH_AND_TEXT, TEACHER
from light_sernet_kd.data.run_folder import Run, RunFolder
from light_sernet_kd.data.selection import changed_folds
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.outcome import command_of, options_beside
from light_sernet_kd.files import JsonError, read_json
from light_sernet_kd.registries.losses import NO_TEACHER
from light_sernet_kd.registries.recipes import DEFAULT, DISTILLED
from light_sernet_kd.registries.students import is_multimodal

if TYPE_CHECKING:
    from light_sernet_kd.experiment.shared import Experiment

# Beside those of the group: what a student without a teacher makes no use of.
_OF_DISTILLATION = (
    "distillation", "distillation_weights", "standardise_logits", "unlabelled", "unlabelled_share",
    "unlabelled_skip_tested", "unlabelled_views",
)  # fmt: skip
# A fold's student is the same whatever these are.
_NOT_OF_A_FOLD = (*NOT_IN_DIGEST, "export", "folds", "merge_tflite")
_CONFIG = {
    "settings": {"distillation": str},
    "corpus_sha256": str,
    "encoders_sha256": {str: (str, None)},
    "folds_sha256?": {str: str},
    "plugins?": [{"sha256": str}],
}


def settings_alone(settings: Settings) -> Settings:
    """The settings of the same training without a teacher, and without files for a device.

    >>> alone = settings_alone(Settings(distillation="KD", teacher="auto", epochs=5))
    >>> alone.distillation, alone.teacher, alone.epochs
    ('pure', None, 5)
    """
    # The same recipe without a teacher.
    recipe = DEFAULT if settings.recipe == DISTILLED else settings.recipe
    groups = [TEACHER] if is_multimodal(settings.student) else [TEACHER, SPEECH_AND_TEXT]
    dropped = [name for name, option in fields.options(Settings).items() if option.group in groups]
    plain = {name: getattr(Settings(), name) for name in (*dropped, *_OF_DISTILLATION)}
    return dataclasses.replace(
        settings,
        **{**plain, "recipe": recipe, "distillation": NO_TEACHER, "export": False, "enrolment": False},
    )


def decides_folds(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of settings as config.json has them, those that decide what a fold's student becomes."""
    return {name: value for name, value in Settings.completed(settings).items() if name not in _NOT_OF_A_FOLD}


@dataclass(frozen=True)
class Alone:
    """A finished run without a teacher, which has the folds of a run with one."""

    folder: RunFolder
    run: Run

    def predicted(self, run: "Experiment") -> np.ndarray:
        """Classes `(tested,)` of the run's test utterances, in its order."""
        mine = self.run.predictions
        place = {key: row for row, key in enumerate(zip(mine.ids, mine.folds, strict=True))}
        index = np.array([run.classes.index(name) for name in mine.classes])
        return index[mine.predicted[[place[key] for key in _tested(run)]]]


def _tested(run: "Experiment") -> list[tuple[str, str]]:
    return [(run.utterances[row].id, fold.name) for fold in run.folds for row in fold.test]


def find_alone(run: "Experiment") -> Alone | None:
    """A finished run of the student alone in the folder of results; the first by name."""
    wanted = decides_folds(settings_alone(run.settings).as_dict())
    with_plugins = set(plugins.behind(wanted))
    encoders = run.config["encoders_sha256"].get("student")
    for path in sorted(run.folder.path.resolve().parent.glob("*/metrics.json")):
        folder = RunFolder(path.parent)
        with contextlib.suppress(OSError, JsonError, UserError):
            config = read_json(folder.config, _CONFIG)
            same = (
                config["settings"]["distillation"] == NO_TEACHER
                and config["corpus_sha256"] == run.corpus_digest
                and config["encoders_sha256"].get("student") == encoders
                and config.get("start_sha256") == run.config.get("start_sha256")
                and decides_folds(config["settings"]) == wanted
                and not changed_folds(run.config.get("folds_sha256", {}), config.get("folds_sha256", {}))
                and with_plugins <= {each["sha256"] for each in config.get("plugins", [])}
            )
            if not same:
                continue
            finished = folder.finished()
            keys = set(zip(finished.predictions.ids, finished.predictions.folds, strict=True))
            if keys.issuperset(_tested(run)) and set(finished.predictions.classes) == set(run.classes):
                return Alone(folder, finished)
    return None


def command_alone(run: "Experiment") -> str:
    """The command line that trains the student alone beside the run."""
    options = dataclasses.replace(run.options, run=run.folder.path.name)
    return command_of(settings_alone(run.settings), options_beside(run.settings, options))


def teacher_comparison(run: "Experiment", outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """UA of the teacher, the student alone and the taught student, per fold and over all, with differences.

    `alone` is None where no finished run has it; `command` makes one.
    """
    alone = find_alone(run)
    predicted = {
        "teacher": np.concatenate([outcome["logits"]["teacher"] for outcome in outcomes]).argmax(axis=1),
        **({"alone": alone.predicted(run)} if alone else {}),
        "taught": np.concatenate([outcome["logits"]["selected"] for outcome in outcomes]).argmax(axis=1),
    }
    names = np.array([fold.name for fold in run.folds for _ in fold.test])
    speakers, labels = np.array(run.test_speakers), run.test_labels

    def row(name: str, rows: np.ndarray) -> dict[str, Any]:
        ua = {
            who: evaluation.scores(labels[rows], each[rows], run.classes).ua
            for who, each in predicted.items()
        }
        gains = {
            f"{other}_less_{first}": _difference(
                labels[rows], predicted[first][rows], predicted[other][rows], speakers[rows], run.classes
            )
            for first, other in (("alone", "taught"), ("teacher", "taught"), ("alone", "teacher"))
            if {first, other} <= {*predicted}
        }
        return {"name": name, "ua": ua, "gains": gains}

    return {
        "run": alone.run.name if alone else None,
        "command": command_alone(run),
        "folds": [row(fold.name, np.flatnonzero(names == fold.name)) for fold in run.folds],
        "pooled": row("pooled", np.arange(len(names))),
    }


def _difference(
    labels: np.ndarray, first: np.ndarray, other: np.ndarray, speakers: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """UA of `other` less that of `first`, and its paired interval over speakers."""
    ua = [evaluation.scores(labels, each, classes).ua for each in (first, other)]
    interval = evaluation.bootstrap_difference_ci(labels, first, other, speakers, classes)
    return {"ua": ua[1] - ua[0], "ci95": interval and list(interval["ua"])}
