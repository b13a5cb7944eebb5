"""How a name on the command line becomes a corpus."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from light_sernet_kd.corpora import manifest, table_columns, tasks
from light_sernet_kd.corpora.names import SYNONYMS, offered, synonym_notes
from light_sernet_kd.corpora.ratings import NO_RATINGS, Ratings
from light_sernet_kd.corpora.types import Corpus, across
from light_sernet_kd.errors import UserError, choose
from light_sernet_kd.files import path_on_disk
from light_sernet_kd.registries.corpora import CORPORA, MANIFEST, CorpusSource

# What an answer is called that is not to be trusted: no emotion can have its name.
RESERVED = "unsure"


def find(name: str, data: Path) -> tuple[str, CorpusSource, Path]:
    """The corpus's own name (or the manifest's path), its source and its folder (or the manifest).

    Raises:
        UserError: no such corpus.
    """
    if is_manifest(name):
        return name, MANIFEST, path_on_disk(Path(name))
    name = choose("corpus", name, (*CORPORA, "path/to/manifest.csv"))
    return name, CORPORA[name], path_on_disk(data / name)


def is_manifest(name: str) -> bool:
    """Whether a corpus is named by the path of its table."""
    return Path(name).suffix.lower() in (".csv", ".tsv")


def default_protocol(name: str, data: Path, columns: Sequence[str] = ()) -> str:
    """The protocol of a corpus where none is named: one that runs on it.

    Of a manifest the number of speakers decides. What is wrong with it is said when it is read.

    Raises:
        UserError: no such corpus.
    """
    name, source, root = find(name, data)
    if not is_manifest(name):
        return source.protocol
    try:
        speakers = manifest.speakers_up_to(root, 3, columns)
    except UserError:
        return source.protocol
    return "two_speakers" if speakers == 2 else source.protocol


def different_people(one: str, other: str) -> bool:
    """Whether speakers of one name are different people in two corpora, given by `registries.corpora.origin`.

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
    columns: Sequence[str] = (),
    skip_bad: bool = False,
    ratings: Ratings = NO_RATINGS,
) -> Corpus:
    """The corpus `name` in the folder `data`, or the manifest that `name` is the path of.

    What the part and the task leave out is counted in `left_out`, what the task merges is in `merged`.

    Args:
        audio_type: the part of it.
        emotions: the task, as names and merges `from=to` (see `tasks`); empty is the corpus's usual one.
        test_on: a second corpus, whole; the two become one as `across` has it.
        columns: of a manifest, what is meant by which column, as `role=name`.
        skip_bad: leave out what is wrong (rows, texts, recordings without label), into `skipped`, rather than
            refuse.
        ratings: the dimensions that each corpus must have, and the ends of a manifest's scale.

    Raises:
        UserError: no such corpus, part or emotion, or what its parser found wrong.

    >>> corpus = load("EMO-DB", Path("data"))
    >>> corpus.classes
    ('anger', 'boredom', 'disgust', 'fear', 'happiness', 'neutral', 'sadness')
    >>> load("EMO-DB", Path("data"), emotions=("anger", "neutral", "boredom=neutral")).classes
    ('anger', 'neutral')
    """
    if columns and not any(is_manifest(each) for each in (name, test_on) if each):
        raise UserError("--columns says what the columns of a manifest are: name one, or leave it out.")
    given = [each for each in (name, test_on) if each is not None]
    if ratings.ends is not None and not any(map(is_manifest, given)):
        raise UserError(
            "--dimension_range says the ends of a manifest's scale: name a manifest, or leave it out."
        )
    read = functools.partial(_whole, data=data, skip_bad=skip_bad, ratings=ratings)
    corpora = [read(name, audio_type=audio_type, columns=columns)]
    if test_on is not None:
        if find(test_on, data)[2] == find(name, data)[2]:
            raise UserError(f"{test_on} trains already: --test-on takes another corpus.")
        corpora.append(read(test_on, columns=_of_second(test_on, columns)))
    if emotions:
        task = tasks.parse(emotions)
        present = {utterance.emotion: utterance for _, corpus in corpora for utterance in corpus.utterances}
        names = " or ".join(corpus.name for _, corpus in corpora)
        tasks.check(task, Corpus(names, tuple(present.values())))
    if ratings.replace_emotions:
        restricted = [ratings.only(corpus) for _, corpus in corpora]
        return restricted[0] if test_on is None else across(*restricted)
    restricted = [
        tasks.restrict(corpus, task if emotions else tasks.parse(source.emotions))
        for source, corpus in corpora
    ]
    for corpus in restricted:
        if RESERVED in corpus.classes:
            raise UserError(
                f"{corpus.name} has the class {RESERVED}, which is what an answer is called that is not to "
                "be trusted: give the class another name in the table, or leave it out with --emotions."
            )
    if test_on is None:
        return _with_notes(restricted[0], synonym_notes(restricted[0].classes))
    return _across(*restricted)


def _of_second(name: str, columns: Sequence[str]) -> list[str]:
    """Those of the columns that the table of the second corpus has too."""
    if not is_manifest(name):
        return []
    try:
        header = {each.lower() for each in manifest.columns(path_on_disk(Path(name)))}
    except UserError:
        return []  # said when it is read
    return [
        f"{role}={each}" for role, each in table_columns.parsed(columns).items() if each.lower() in header
    ]


def _across(train: Corpus, test: Corpus) -> Corpus:
    """`corpora.across`, with the merges that would let more emotions be in both."""
    option = offered(train.classes, test.classes, {**train.merged, **test.merged})
    try:
        joined = across(train, test)
    except UserError as error:
        raise UserError(f"{error} Synonyms count as one with {option}" if option else str(error)) from None
    if not option:
        return joined
    apart = sorted({*train.classes, *test.classes} - {*joined.classes})
    named = ", ".join(f"{name} means {SYNONYMS[name]}" for name in apart if name in SYNONYMS)
    return _with_notes(
        joined,
        [f"CHECK {named}: synonyms are left out where the other corpus lacks them. To keep them: {option}"],
    )


def _with_notes(corpus: Corpus, notes: Sequence[str]) -> Corpus:
    return dataclasses.replace(corpus, notes=(*corpus.notes, *notes)) if notes else corpus


def _whole(
    name: str,
    data: Path,
    *,
    audio_type: str = "all",
    columns: Sequence[str] = (),
    skip_bad: bool = False,
    ratings: Ratings = NO_RATINGS,
) -> tuple[CorpusSource, Corpus]:
    name, source, root = find(name, data)
    if audio_type not in source.audio_types:
        raise UserError(f"{name} has no part {audio_type!r}; it has {', '.join(source.audio_types)}.")
    read = functools.partial(source.utterances, root, skip_bad=skip_bad)
    if is_manifest(name):
        read = functools.partial(
            read,
            columns=columns,
            dimensions=ratings.dimensions,
            dimension_range=ratings.ends,
        )
    if ratings.replace_emotions and (is_manifest(name) or source.dimensions):
        read = functools.partial(read, needs_emotions=False)
    whole = read()
    ratings.check(whole)
    whole = _with_notes(whole, source.published.compared(whole))
    return source, _part(whole, audio_type)


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
