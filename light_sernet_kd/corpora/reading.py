"""How a corpus's folder is read: where its recordings lie, and all that is wrong with them, not the first."""

import contextlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from light_sernet_kd.audio.containers import SUFFIXES
from light_sernet_kd.corpora.names import alike_notes
from light_sernet_kd.corpora.types import Corpus, Utterance
from light_sernet_kd.errors import UserError

# What a recording may be called; how it is stored is told by its content. Of what needs the extra `media`,
# names of sound and of short videos: a corpus's folder may hold other files called .ts or .mpg.
AUDIO_SUFFIXES = frozenset(
    (*SUFFIXES, ".m4a", ".mp4", ".aac", ".webm", ".mka", ".mkv", ".mov", ".amr", ".3gp", ".wma")
)
VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov")
MOST_SHOWN = 20
REMEDY = "leave them out with --skip-bad"
_DEPTH = 2  # levels below the expected folder that are looked into


class Findings:
    """What a parser finds wrong, what it mends and what it cannot tell, of a whole corpus.

    Attributes:
        bad: what is wrong → the sentence on it. The key is the utterance's id where that is known, else the
            file, or the file and line.
        untold: utterance id → why it has no transcript. Only students that read need one.
        notes: lines for the user.
        twins: pairs of files that hold one recording; the first is read.
    """

    def __init__(self, corpus: str, skip_bad: bool = False) -> None:
        self.name, self.skip_bad = corpus, skip_bad
        self.bad: dict[str, str] = {}
        self.untold: dict[str, str] = {}
        self.notes: list[str] = []
        self.twins: list[tuple[Path, Path]] = []

    @contextlib.contextmanager
    def of(self, what: object) -> Iterator[None]:
        """Note a `UserError` of the body as what is wrong with `what`, and go on after the body."""
        try:
            yield
        except UserError as error:
            self.wrong(what, str(error))

    @contextlib.contextmanager
    def of_labels(self, what: object, recordings: Collection[str]) -> Iterator[None]:
        """As `of`, of a file of labels without which these recordings have none."""
        with self.of(what):
            try:
                yield
            except UserError as error:
                consequence = f"{len(recordings):,} recordings have no label without it."
                raise UserError(f"{error} {consequence}") from None

    def wrong(self, what: object, sentence: str) -> None:
        self.bad.setdefault(str(what), sentence)

    def put(self, recordings: dict[str, Path], name: str, path: Path) -> None:
        """Add a recording; one that is there under the same name stays, and the two are twins."""
        other = recordings.setdefault(name, path)
        if other != path:
            self.twins.append((other, path))

    def pair(self, recordings: Mapping[str, Path], labels: Collection[str], label_file: Path) -> list[str]:
        """The names of the recordings, given by name, that have a label; the others are noted as wrong."""
        for name, path in recordings.items():
            if name not in labels and name not in self.bad:
                self.wrong(name, f"{path} has no label: {label_file} does not list {name}.")
        for name in labels:
            if name not in recordings and name not in self.bad:
                self.wrong(name, f"{label_file} lists {name}, but there is no recording {name}.wav.")
        return [name for name in recordings if name in labels]

    def corpus(self, utterances: Iterable[Utterance], left_out: Mapping[str, int] | None = None) -> Corpus:
        """The corpus of these utterances, sorted by id, with what was found.

        Raises:
            UserError: something is wrong and `skip_bad` is off, or nothing is left.
        """
        by_id: dict[str, Utterance] = {}
        for utterance in sorted(utterances, key=lambda utterance: utterance.id):
            other = by_id.setdefault(utterance.id, utterance)
            if other is not utterance:
                self.twins.append((other.path, utterance.path))
        return self.whole(tuple(by_id.values()), left_out)

    def whole(self, utterances: tuple[Utterance, ...], left_out: Mapping[str, int] | None = None) -> Corpus:
        """The corpus of these utterances, which are sorted by id and have different ids, with what was found.

        Raises:
            UserError: as of `corpus`.
        """
        self._judge_twins()
        if self.bad and (not self.skip_bad or not utterances):
            raise UserError(listing(self.name, list(self.bad.values()), skipped=self.skip_bad))
        kept = {each.id for each in utterances} if self.untold else set()
        if lacking := [name for name in self.untold if name in kept]:
            self.notes.append(
                f"{len(lacking):,} of {len(utterances):,} recordings have no transcript, e.g. {lacking[0]}: "
                f"{self.untold[lacking[0]]} Only students that read need it."
            )
        for what in ("speaker", "session", "dialog"):
            self.notes += alike_notes(what, {getattr(each, what) or "" for each in utterances})
        return Corpus(
            self.name,
            utterances,
            left_out=dict(left_out or {}),
            skipped=dict(self.bad),
            notes=tuple(self.notes),
        )

    def _judge_twins(self) -> None:
        if not self.twins:
            return
        first, second = self.twins[0]
        formats = " in two formats" if first.suffix.lower() != second.suffix.lower() else ""
        if len(self.twins) == 1:
            sentence = f"{first} and {second} are one recording{formats}: keep one of them."
        else:
            sentence = (
                f"{len(self.twins):,} recordings lie twice{formats}, e.g. {first} and {second}: keep one of "
                f"each, such as by removing the copies like {second}."
            )
        if self.skip_bad:
            for one, other in self.twins:
                self.bad.setdefault(str(other), f"{one} and {other} are one recording{formats}.")
        else:  # one sentence for all of them
            self.bad = {"twins": sentence, **self.bad}


def listing(name: str, sentences: list[str], *, skipped: bool = False) -> str:
    """All that is wrong with a corpus, at most `MOST_SHOWN` in words, and the remedy."""
    if skipped:
        head = f"no recording of {name} is left: {len(sentences):,} rows, texts or recordings are wrong"
        remedy = "Mend them."
    elif len(sentences) == 1:
        return f"{sentences[0]} Mend it, or {REMEDY.replace('them', 'it')}."
    else:
        head = f"{len(sentences):,} rows, texts or recordings of {name} are wrong"
        remedy = f"Mend or remove them, or {REMEDY}."
    shown = "".join(f"\n  {sentence}" for sentence in sentences[:MOST_SHOWN])
    more = f"\n  and {len(sentences) - MOST_SHOWN:,} more" if len(sentences) > MOST_SHOWN else ""
    return f"{head}:{shown}{more}\n  {remedy}"


# Where the recordings lie


def is_recording(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES


def _walked(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A folder and those below it, also behind links, with their files; none twice, none hidden."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()  # a link back to what was seen
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield place, [name for name in names if not name.startswith(".")]


def recordings_below(folder: Path) -> list[str]:
    """The recordings in a folder and below it, also behind links, relative to it, sorted; none is hidden.

    Raises:
        UserError: there is none.
    """
    names = []
    for place, files in _walked(folder):
        inside = os.path.relpath(place, folder)
        for name in files:
            if os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
                names.append(os.path.normpath(os.path.join(inside, name)).replace(os.sep, "/"))
    if not names:
        raise UserError(f"no recordings in {folder} or below it: {', '.join(sorted(AUDIO_SUFFIXES))}.")
    return sorted(names)


def recordings(folder: Path, pattern: str = "*") -> list[Path]:
    """The recordings that match a pattern, sorted; none is hidden (a Mac leaves `._x.wav` by `x.wav`)."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if is_recording(path) and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def recordings_named(folder: Path, name: re.Pattern[str]) -> list[Path]:
    """The recordings in a folder whose names, without the suffix, match a pattern of a corpus; sorted."""
    return [path for path in recordings(folder) if name.fullmatch(path.stem)]


def tree(folder: Path) -> list[Path]:
    """All recordings in a folder and its folders, sorted, also behind links; none twice, none hidden."""
    paths = (Path(place, name) for place, names in _walked(folder) for name in names)
    return sorted(filter(is_recording, paths))


def folders_of(
    root: Path,
    listed: Callable[[Path], list[Path]],
    findings: Findings,
    *,
    flat: Callable[[Path], list[Path]] | None = None,
    several: bool = False,
) -> dict[Path, list[Path]]:
    """The folders that hold a corpus: `root`, or where it has none of the recordings, one below it.

    Archives and mirrors add a level, or two. What lies twice is read once, and said.

    Args:
        listed: the recordings in a folder that is laid out as the corpus is.
        flat: the same of a folder whose recordings lie side by side; asked where `listed` found nothing.
        several: recordings may come from several folders, if none is in two.

    Returns:
        Folder → its recordings; empty where there are none.

    Raises:
        UserError: several folders hold different recordings of the corpus.
    """
    recordings_by_folder = {folder: paths for folder in _levels(root) if (paths := listed(folder))}
    if not recordings_by_folder and flat:
        recordings_by_folder = {folder: paths for folder in _levels(root) if (paths := flat(folder))}
    if len(recordings_by_folder) > 1:
        recordings_by_folder = _without_twins(recordings_by_folder, findings, several)
    for folder in recordings_by_folder:
        if folder != root:
            findings.notes.append(f"read from {folder}, below the expected folder {root}")
    return recordings_by_folder


def _levels(root: Path) -> list[Path]:
    """The folder and those up to `_DEPTH` levels below it, without hidden ones, each once."""
    level_folders: list[Path] = []
    seen: set[str] = set()
    level = [root]
    for _ in range(_DEPTH + 1):
        following: list[Path] = []
        for folder in level:
            real = os.path.realpath(folder)
            if real in seen or not folder.is_dir():
                continue
            seen.add(real)
            level_folders.append(folder)
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                names = sorted(each.name for each in entries if each.is_dir() and each.name[0] != ".")
                following += [folder / name for name in names]
        level = following
    return level_folders


def _without_twins(
    recordings_by_folder: Mapping[Path, list[Path]], findings: Findings, several: bool
) -> dict[Path, list[Path]]:
    names = {folder: {path.stem for path in paths} for folder, paths in recordings_by_folder.items()}
    kept: dict[Path, list[Path]] = {}
    # the fullest first; of two that are alike, the one nearest to the root
    for folder in sorted(recordings_by_folder, key=lambda folder: -len(names[folder])):
        twin = next((other for other in kept if names[folder] & names[other]), None)
        if twin is not None and names[folder] <= names[twin]:
            if _by_links(recordings_by_folder[folder], recordings_by_folder[twin]):
                continue
            findings.notes.append(
                f"{len(recordings_by_folder[folder]):,} recordings lie twice, in {twin} and in {folder}: "
                f"those in {twin} are read. Remove one of the two folders"
            )
        elif twin is not None or (kept and not several):
            other = twin or next(iter(kept))
            shared = len(names[folder] & names[other])
            raise UserError(
                f"{other} and {folder} both hold recordings of {findings.name} ({len(names[other]):,} and "
                f"{len(names[folder]):,}, {shared:,} of them in both). Put all of them into one of the two."
            )
        else:
            kept[folder] = recordings_by_folder[folder]
    return kept


def _by_links(paths: list[Path], others: list[Path]) -> bool:
    """Whether the paths are the same files as the others, which links lead to."""
    real = {path.stem: os.path.realpath(path) for path in others}
    return all(os.path.realpath(path) == real[path.stem] for path in paths)


def no_recordings_error(
    where: Path, root: Path, layout: str, parts: Callable[[Path], Any] | None = None
) -> UserError:
    """The error where no recording was found: what is there, what is expected, and what to do.

    Args:
        where: the folder that was expected to hold recordings.
        root: the corpus's folder.
        layout: the files expected in it.
        parts: whether a folder is laid out as the corpus is.
    """
    message = f"no recordings in {where}."
    if parts and not root.exists() and root.parent.is_dir() and parts(root.parent):
        return UserError(
            f"{message} {root.parent} itself holds them: --data names the folder above it, in which the "
            f"corpus's folder is called {root.name}."
        )
    if content := _content(root):
        message += f" Found in {root}: {content}; expected {layout}."
    return UserError(
        f"{message} `light-sernet-kd fetch {root.name}` downloads the corpus or says where to get it; "
        "-dn demo needs none."
    )


def _content(folder: Path) -> str:
    """What lies in a folder, in words; empty where there is nothing."""
    try:
        with os.scandir(folder) as entries:
            there = sorted((each.name, each.is_dir()) for each in entries if not each.name.startswith("."))
    except OSError:
        return ""
    folders = [name for name, is_folder in there if is_folder]
    files = [name for name, is_folder in there if not is_folder]
    parts = []
    if folders:
        more = f" and {len(folders) - 4} more" if len(folders) > 4 else ""
        parts.append(f"the folder{'s' * (len(folders) > 1)} {', '.join(folders[:4])}{more}")
    if files:
        parts.append(f"{len(files):,} file{'s' * (len(files) > 1)} such as {files[0]}")
    return " and ".join(parts)
