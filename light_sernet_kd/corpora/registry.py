"""The corpora by name, and how a name on the command line becomes a corpus."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_sernet_kd.config import UserError, choose
from light_sernet_kd.corpora import (
    Corpus,
    Origin,
    across,
    cremad,
    demo,
    emodb,
    esd,
    iemocap,
    kemdy19,
    kemdy20,
    manifest,
    ravdess,
    tasks,
    tess,
)

IMPROVISED = ("all", "impro", "script")


@dataclass(frozen=True)
class Source:
    """How to read a corpus, and what may be chosen in it.

    Attributes:
        audio_types: the parts that `-at` may choose from; all but `all` are looked for in the dialog's name.
        emotions: the corpus's usual task, as `--emotions` would give it; empty is all its emotions.
        sessions: whether its utterances name their session.
        origin: where it comes from; None for what is made here or written by the user.
    """

    utterances: Callable[[Path], Corpus]
    audio_types: tuple[str, ...] = ("all",)
    emotions: tuple[str, ...] = ()
    sessions: bool = False
    origin: Origin | None = None


CORPORA: dict[str, Source] = {
    "EMO-DB": Source(emodb.utterances, origin=emodb.ORIGIN),
    "IEMOCAP": Source(iemocap.utterances, IMPROVISED, iemocap.TASK, sessions=True, origin=iemocap.ORIGIN),
    "RAVDESS": Source(ravdess.utterances, origin=ravdess.ORIGIN),
    "CREMA-D": Source(cremad.utterances, origin=cremad.ORIGIN),
    "TESS": Source(tess.utterances, origin=tess.ORIGIN),
    "ESD": Source(esd.utterances, origin=esd.ORIGIN),
    "KEMDy19": Source(kemdy19.utterances, IMPROVISED, sessions=True, origin=kemdy19.ORIGIN),
    "KEMDy20": Source(kemdy20.utterances, sessions=True, origin=kemdy20.ORIGIN),
    "demo": Source(demo.utterances),
}


def find(name: str, data: Path) -> tuple[str, Source, Path]:
    """The corpus's own name (or the manifest's path), its source and its folder (or the manifest).

    Raises:
        UserError: no such corpus.
    """
    if Path(name).suffix.lower() in (".csv", ".tsv"):
        return name, Source(manifest.utterances), Path(name)
    name = choose("corpus", name, (*CORPORA, "path/to/manifest.csv"))
    return name, CORPORA[name], data / name


def origin(name: str) -> str:
    """The own name of a corpus that is known by name; empty for a manifest, whose speakers may be anyone."""
    return next((known for known in CORPORA if known.lower() == name.lower()), "")


def different_people(one: str, other: str) -> bool:
    """Whether speakers of one name are different people in two corpora, given by `origin`.

    They are in two corpora that are known by name: each was recorded with people of its own, whom it numbers
    or names by itself. Of a manifest nobody knows that.
    """
    return bool(one and other) and one != other


def load(
    name: str,
    data: Path,
    *,
    audio_type: str = "all",
    emotions: Sequence[str] = (),
    test_on: str | None = None,
) -> Corpus:
    """The corpus `name` in the folder `data`, or the manifest that `name` is the path of.

    What the part and the task leave out is counted in `left_out`, what the task merges is in `merged`.

    Args:
        audio_type: the part of it.
        emotions: the task, as names and merges `from=to` (see `tasks`); empty is the corpus's usual one.
        test_on: a second corpus, whole; the two become one as `across` has it.

    Raises:
        UserError: no such corpus, part or emotion, or what its parser found wrong.
    """
    corpora = [_whole(name, data, audio_type)]
    if test_on is not None:
        if find(test_on, data)[2] == find(name, data)[2]:
            raise UserError(f"{test_on} trains already: --test-on takes another corpus.")
        corpora.append(_whole(test_on, data, "all"))
    if emotions:
        task = tasks.parse(emotions)
        present = {utterance.emotion: utterance for _, corpus in corpora for utterance in corpus.utterances}
        names = " or ".join(corpus.name for _, corpus in corpora)
        tasks.check(task, Corpus(names, tuple(present.values())))
    restricted = [
        tasks.restrict(corpus, task if emotions else tasks.parse(source.emotions))
        for source, corpus in corpora
    ]
    return restricted[0] if test_on is None else across(*restricted)


def _whole(name: str, data: Path, audio_type: str) -> tuple[Source, Corpus]:
    name, source, root = find(name, data)
    if audio_type not in source.audio_types:
        raise UserError(f"{name} has no part {audio_type!r}; it has {', '.join(source.audio_types)}.")
    return source, _part(source.utterances(root), audio_type)


def why_absent(name: str, data: Path, **chosen: Any) -> str | None:
    """Why the corpus cannot be read here, with `load`'s arguments; None when it can."""
    try:
        load(name, data, **chosen)
    except UserError as error:
        return str(error)
    return None


def _part(corpus: Corpus, audio_type: str) -> Corpus:
    """The utterances whose dialog's name holds `audio_type`."""
    if audio_type == "all":
        return corpus
    kept = tuple(utterance for utterance in corpus.utterances if audio_type in (utterance.dialog or ""))
    if not kept:
        raise UserError(f"{corpus.name} has no dialog with {audio_type!r} in its name here.")
    left_out = Counter(corpus.left_out)
    left_out[f"not of the part {audio_type}"] += len(corpus.utterances) - len(kept)
    return dataclasses.replace(corpus, utterances=kept, left_out=dict(+left_out))
