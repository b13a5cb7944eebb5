"""Exported files of a run whose folds are trained, made later and perhaps on another machine."""

from pathlib import Path

from light_sernet_kd.config import RunOptions
from light_sernet_kd.data.protocols import ALL_SPEAKERS
from light_sernet_kd.data.resolve_settings import settings_of_run
from light_sernet_kd.data.run_folder import RunFolder
from light_sernet_kd.errors import UserError
from light_sernet_kd.experiment.run import conclude, run_folds
from light_sernet_kd.experiment.shared import Experiment
from light_sernet_kd.files import JsonError, read_json
from light_sernet_kd.registries.engines import ENGINE_OF_OLDER_RUNS
from light_sernet_kd.reporting.display import Display

_CONFIG = {"settings": dict, "resolved": {"engine?": str}}


def export_run(folder: Path, data: Path, display: Display) -> list[Path]:
    """Make the .tflite files of the run in `folder`, score them, and write its results anew.

    The final student is trained on all speakers where the run did not. What config.json says of the run, and
    with it the command that continues it, stay as they are. An interrupted export goes on where it was.

    Args:
        data: the folder of the corpora.

    Returns:
        The files.

    Raises:
        UserError: no run is there, a fold of it is not trained, or its corpus or teacher is another now.
    """
    if folder.name in ("", ".."):  # as `export .` has it: the run is named after its folder
        folder = folder.resolve()
    try:
        config = read_json(RunFolder(folder).config, _CONFIG)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no run in {folder}: it has no config.json. Name a run's folder.") from None
    except (OSError, JsonError) as error:
        raise UserError(f"{folder}: its config.json is damaged ({error}): copy it anew.") from None
    settings = settings_of_run(folder, config["settings"])
    options = RunOptions(data=data, result=folder.parent, run=folder.name, audio=_plays(folder))
    with RunFolder(folder).lock():
        engine = config["resolved"].get("engine", ENGINE_OF_OLDER_RUNS)
        run = Experiment(settings, options, folder, display, engine=engine)
        if untrained := [fold.name for fold in run.folds if not run.step(fold).is_done]:
            raise UserError(
                f"{folder} is not trained on fold {', '.join(untrained)}: the command that began the run "
                "continues it."
            )
        _check_teacher(run)
        exported = conclude(run, run_folds(run), wanted=True)
    return [folder / row["file"] for row in (exported or {"rows": []})["rows"]]


def _check_teacher(run: Experiment) -> None:
    """Refuse, before any work, a run whose teacher cannot teach the student that is exported."""
    is_trained = run.step(run.selection.final_fold).is_done
    folds = run.teacher.folds if run.teacher and not is_trained else ()
    if folds and ALL_SPEAKERS not in folds:
        raise UserError(
            f"the teacher of {run.folder.path} answers for its folds alone, and not for the student of all "
            "speakers that is exported: the run's command with another --run and without --no-export has one "
            "that does."
        )


def _plays(folder: Path) -> bool:
    """Whether the page that is written anew may hold recordings: one that had none gets none."""
    path = RunFolder(folder).page
    return not path.exists() or "<audio" in path.read_text(encoding="utf-8")
