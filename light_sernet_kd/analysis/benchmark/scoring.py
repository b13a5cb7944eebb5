"""How well files answer: UA and WA here, and those of the folds' students that a card tells."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_sernet_kd import audio, evaluation, runner
from light_sernet_kd.corpora import Utterance
from light_sernet_kd.data import training_list
from light_sernet_kd.data.selection import CorpusPart, named_folds
from light_sernet_kd.errors import UserError
from light_sernet_kd.registries.corpora import registered_name


@dataclass(frozen=True)
class Recordings:
    """What files are scored on.

    Attributes:
        what: the rows in words: corpus, protocol, fold.
        origin: the corpus's own name where it is known by name; empty for a manifest.
    """

    corpus: str
    what: str
    utterances: tuple[Utterance, ...]
    origin: str = ""


def recordings_of(
    part: CorpusPart, *, fold: str | None = None, protocol: str | None = None, files: Sequence[Path] = ()
) -> Recordings:
    """The test recordings of a fold, or all of a part of a corpus where none is named.

    The fold is that of the run in whose folder the files are; see `selection.named_folds`.
    """
    if fold is None:
        corpus = part.load()
        return Recordings(
            corpus.name, f"all recordings of {corpus.name}", corpus.utterances, registered_name(part.corpus)
        )
    chosen = named_folds([fold], files, part, protocol=protocol)
    name = chosen.corpus.name
    what = f"the test recordings of {chosen.what} of {name}"
    return Recordings(name, what, chosen.utterances, registered_name(part.corpus))


def accuracy(
    path: Path, recordings: Recordings, read: dict[Path, bytes | None] | None = None
) -> dict[str, Any]:
    """UA and WA of a file on recordings, and whether its student was trained on them.

    Args:
        read: what `training_list.of_tested` read of recordings before.

    Raises:
        UserError: the file takes no audio or gives no classes, or none of the recordings has a label of the
            file's.
    """
    try:
        opened = runner.Runner(path)
        runner.require_classes(opened.card, path, "--on")
        scored = _scored_by(opened, path, recordings)
        predicted, cut = _predictions(opened, scored)
    except runner.RunnerError as error:
        raise UserError(str(error)) from None
    labels = [opened.labels.index(each.emotion) for each in scored]
    trained = training_list.read(path)
    # Of a file without a list, nothing is asked that its recordings would answer.
    tested = training_list.of_tested(
        scored if trained else [], corpus=recordings.corpus, origin=recordings.origin, read=read
    )
    known = training_list.training_overlap(opened.card, trained, tested)
    scores = evaluation.scores(labels, predicted, opened.labels)
    return {
        "on": recordings.what,
        "ua": scores.ua,
        "wa": scores.wa,
        "utterances": scores.count,
        "left_out": len(recordings.utterances) - len(scored),
        "texts_partly_read": cut,
        "trained_on": known.trained_on,
        "trained_on_recordings": known.recordings,
        "same_speaker_names": known.speakers,
        "trained": known.words,
    }


def _scored_by(opened: runner.Runner, path: Path, recordings: Recordings) -> list[Utterance]:
    """The recordings of emotions that the file knows."""
    reads = opened.text is not None
    opened.require(audio=True, text=reads)
    scored = [each for each in recordings.utterances if each.emotion in opened.labels]
    if not scored:
        raise UserError(
            f"{path} tells apart {', '.join(opened.labels)}, and {recordings.what} have none of these."
        )
    if reads and (silent := [each.id for each in scored if not each.transcript]):
        raise UserError(f"{path} also reads text, and {silent[0]} of {recordings.corpus} has no transcript.")
    return scored


def _predictions(opened: runner.Runner, utterances: Sequence[Utterance]) -> tuple[list[int], int]:
    """The class index of each utterance, and how many texts were too long to be read whole."""
    with warnings.catch_warnings(record=True) as cut:
        warnings.simplefilter("always", runner.TextWarning)
        predicted = [
            int(
                opened.probabilities(
                    audio.read(each.path, sample_rate=opened.sample_rate),
                    None if opened.text is None else each.transcript,
                ).argmax()
            )
            for each in utterances
        ]
    return predicted, sum(issubclass(each.category, runner.TextWarning) for each in cut)


def folds_students(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a file's card tells of the folds' students of its run in this precision; None if it does not.

    Returns:
        `ua` and `wa`; `ua_interval`, None for too few speakers; `corpus`, `synthetic`, `protocol`, `folds`,
        `stamps` and `scored`, which says whose scores these are.
    """
    if "ua" not in card:
        return None
    facts = ("corpus", "synthetic", "protocol", "folds", "stamps", "scored")
    interval = [card[end] for end in ("ua_low", "ua_high") if end in card]
    return {
        "ua": card["ua"],
        "wa": card.get("wa"),
        "ua_interval": interval if len(interval) == 2 else None,
        **{name: card.get(name) for name in facts},
    }
