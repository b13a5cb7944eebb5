"""What the command `predict` answers: of whole recordings, of texts, of both, as lines or for programs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from light_sernet_kd import audio
from light_sernet_kd.config import Dimensions
from light_sernet_kd.corpora.tables import Table
from light_sernet_kd.device import (
    answers,
    command_paths,
    enroll,
    formats,
    in_parallel,
    stream_options,
    stream_predictions,
    whole,
)
from light_sernet_kd.errors import UserError, choose, nfc
from light_sernet_kd.runner import (
    UNSURE,
    Runner,
    RunnerError,
    TextWarning,
    require_enrolled,
)


@dataclass(frozen=True)
class Request:
    """The options of the command.

    Attributes:
        model: an exported file, a folder or a name; see `command_paths.model_file`.
        recordings: paths, folders and lists; see `command_paths.recordings_of`.
        text: what is said in the one recording, or a text alone.
        text_file: a table with the columns path and transcript.
        settings: of `runner.Stream`; its gates hold for short recordings too.
        threads: processor cores for one clip.
        jobs: recordings that are answered at once, each in a process of its own.
        stream: print a timeline of windows, not an answer per recording.
        form: one of `answers.FORMATS`.
        labels: the classes to choose from; none are given for all.
        embedding: the recording's embedding too.
        every_window, picture: with `stream`.
        profile: the file of what is known of the speaker of all recordings.
    """

    model: str | None = None
    recordings: Sequence[str] = ()
    text: str | None = None
    text_file: Path | None = None
    settings: Mapping[str, float] = field(default_factory=dict)
    threads: int = 1
    jobs: int = 1
    stream: bool = False
    form: str = answers.TEXT
    labels: Sequence[str] = ()
    embedding: bool = False
    every_window: bool = False
    picture: Path | None = None
    profile: Path | None = None

    @property
    def has_text(self) -> bool:
        return (self.text or self.text_file) is not None

    @property
    def as_it_comes(self) -> bool:
        """Whether each line of standard input is answered before the next is waited for."""
        return (
            [*self.recordings] == [command_paths.STANDARD_INPUT]
            and self.form != answers.JSON
            and not self.stream
        )


def predict(request: Request) -> int:
    """Print the answers, each as soon as it is known; returns how many recordings or texts have none.

    Why one has none is told on stderr. A recording no longer than the student's input has the answer of that
    clip. A longer one is heard in overlapping windows, and its answer is their summary; see
    `timeline.Summary`. Where the student reads text too, which is of the whole clip, it hears the middle of a
    longer recording, and a warning says so. Memory does not grow with a recording.

    For programs, each recording or text has an entry, in order: `file`, `label`, `probabilities` (class →
    number), `unsure` (true or false), `reason` (why, or null), `warnings`, and of the student `model`,
    `corpus`, `synthetic` and `stamps`; of a recording also `seconds`, `heard` (begin and end in seconds),
    `windows`, `time_shares` (class → share of the time), `unsure_shares` (reason → share of the time), and
    `speaker_clips`, how many recordings of the speaker were known; of a text `text` and `text_warnings`. A
    file that gives dimensions adds `dimensions` (name → number) and `dimension_range`, the scale's ends. Of
    one that gives these alone, `label` is null, and `probabilities` and `time_shares` are empty.
    With `labels`, `labels` are those that the probabilities are of. `embedding` is the mean over what is
    speech, null where nothing is. One that failed has its name and `error`. A table has a part of these.

    Raises:
        UserError: the file, a list or the table of texts cannot be used, or options do not go together.
    """
    _check(request)
    model = command_paths.model_file(request.model, enrolled=request.profile is not None or request.embedding)
    named = request.model
    comes = request.as_it_comes
    recordings = request.recordings if comes else command_paths.recordings_of(request.recordings)
    request = replace(request, model=str(model), recordings=recordings)
    _check_text(request)  # again: a folder or a list may hold many
    answerer = Answerer(request)
    runner = answerer.runner
    if request.labels:
        answers.tell(f"chosen among {', '.join(runner.labels)} alone: their probabilities sum to 1.")
    if request.stream and request.recordings:
        stream_options.stream_of(runner, request.settings)  # what is wrong with a setting stands alone
        answers.tell_model(named, runner)
        return stream_predictions.predict(
            runner,
            request.recordings,
            model=model,
            settings=request.settings,
            console=Console(highlight=False),
            form=request.form,
            every_window=request.every_window,
            picture=request.picture,
        )
    table = _transcripts(request.text_file) if request.text_file else []
    # Without recordings there is a text, and a name where the table has one.
    rows: Iterable[tuple[str, str | None]]
    if comes:
        rows = ((path, request.text) for path in command_paths.recordings_from_stdin())
    else:
        rows = [(path, request.text) for path in request.recordings] or table or [("", request.text)]
    answers.tell_model(named, runner)
    return _answered(answerer, rows, _by_file_name(table))


def _answered(
    answerer: "Answerer",
    rows: Iterable[tuple[str, str | None]],
    texts: Mapping[str, Sequence[tuple[str, str]]],
) -> int:
    """Print an answer per row of a path and a text; returns how many failed."""
    request, failed = answerer.request, 0
    beginnings = [_beginning(path, text) for path, text in rows] if isinstance(rows, list) else []
    jobs = min(request.jobs, len(beginnings)) if beginnings else request.jobs

    def questions() -> Iterator[Question]:
        for path, text in rows:
            try:
                if request.recordings and request.text_file:
                    text = _transcript_of(path, texts, request.text_file)
                yield Question(path, text)
            except UserError as error:
                yield Question(path, text, str(error))

    with (
        answers.answer_list(beginnings, request.form, _columns(answerer.runner)) as entries,
        in_parallel.counted(len(beginnings)) as done,
    ):
        for question, answer in in_parallel.each(answerer, Answerer, request, questions(), jobs=jobs):
            failed += "error" in answer
            if request.form != answers.TEXT:
                entries.append(answer)
            elif "error" not in answer:
                print(f"{question.path or question.text}: {line_of(answer)}", flush=True)
            done()
    return failed


def _columns(runner: Runner) -> list[str]:
    return [*runner.labels, *runner.dimension_names]


def _beginning(path: str, text: str | None) -> dict[str, Any]:
    return {"file": path} if path else {"text": text}


@dataclass(frozen=True)
class Question:
    """A recording, a text, or both; or why there is nothing to ask."""

    path: str
    text: str | None = None
    error: str = ""


class Answerer:
    """Answers questions, in whatever process it is made.

    Raises:
        UserError: the file cannot do what the options name.
    """

    def __init__(self, request: Request):
        self.request = request
        # The file itself, since `predict` has found it.
        self.model = command_paths.model_file(request.model)
        self.runner = runner = enroll.opened(
            self.model, request.profile, threads=request.threads, labels=request.labels
        )
        self._plain: Runner | None = None
        try:
            if not (request.stream and request.recordings):
                runner.require(audio=bool(request.recordings), text=request.has_text)
            if request.embedding:
                require_enrolled(runner.card, self.model)
                self._plain = Runner(self.model, threads=request.threads)
        except RunnerError as error:
            raise UserError(str(error)) from None
        streams = request.stream and request.recordings
        self._gap = "" if streams else _checked_settings(runner, request.settings)

    def __call__(self, question: Question) -> dict[str, Any]:
        """The answer to one question, or its error, which is also told."""
        begun = _beginning(question.path, question.text)
        if question.error:
            return {**begun, "error": answers.failure(UserError(question.error))}
        path = question.path if self.request.recordings else ""
        try:
            answer = _answer(self.runner, path, question.text, self.request.settings)
            if self._plain:
                answer["embedding"] = self._embedding(path)
        except (audio.AudioError, RunnerError, UserError) as error:
            return {**begun, "error": answers.failure(error)}
        # Also of a single window, where the next would begin behind the end.
        if self._gap and answer.get("seconds", 0) > self.runner.samples / self.runner.sample_rate:
            answers.tell(f"{question.path}: {self._gap}")
            answer["warnings"].insert(0, self._gap)
        if self.request.labels:
            answer["labels"] = [*self.runner.labels]
        return {**begun, **answer, **answers.model_facts(self.runner, self.model)}

    def _embedding(self, path: str) -> list[float] | None:
        """Of a recording, by a runner that knows no speaker: what it learns of one recording is its mean."""
        assert self._plain is not None
        self._plain.profile = None
        self._plain.learn(audio.blocks(path, sample_rate=self._plain.sample_rate))
        return self._plain.profile.mean.tolist() if self._plain.profile else None


def _check(request: Request) -> None:
    if not request.stream and (request.picture or request.every_window):
        raise UserError("--picture and -v go with --stream.")
    if request.stream and request.has_text:
        raise UserError("--stream answers windows, and a text is of a whole clip: leave one of them out.")
    _check_text(request)
    choose("format", request.form, answers.FORMATS)
    if request.stream and request.form == answers.CSV:
        raise UserError("--stream prints text, json or jsonl: a timeline is no row of a table.")
    if request.embedding and (request.form in (answers.TEXT, answers.CSV) or request.stream):
        raise UserError("--embedding goes with --format json or jsonl, and not with --stream.")
    if request.embedding and not request.recordings:
        raise UserError("--embedding is of recordings: name one.")
    if request.jobs < 1 or (request.jobs > 1 and request.stream):
        raise UserError("--jobs is at least 1, and 1 with --stream.")


def _check_text(request: Request) -> None:
    if request.text is not None and (request.as_it_comes or len(request.recordings) > 1):
        found = "a list of them" if request.as_it_comes else len(request.recordings)
        raise UserError(f"--text is for one recording, found {found}: take --text-file.")


def _checked_settings(runner: Runner, settings: Mapping[str, float]) -> str:
    """That the settings fit the student; returns what to know of them, mostly nothing."""
    hears = "audio" in runner.inputs
    try:
        whole.check_settings(runner, settings, hears=hears)
        if hears and runner.text is None:
            return stream_options.gap_between_windows(runner, whole.stream_of(runner, settings))
    except RunnerError as error:
        raise UserError(stream_options.by_options(str(error))) from None
    return ""


def _answer(runner: Runner, path: str, text: str | None, settings: Mapping[str, float]) -> dict[str, Any]:
    """The answer to one recording, text or both, as JSON has it."""
    with answers.noted(path or str(text)) as notes:
        if path:
            answers.note_narrow_band(path)
            answer = whole.answer_to(runner, whole.File(path, runner.sample_rate), text, settings)
            answer["speaker_clips"] = enroll.known_clips(runner)
        else:
            answer = whole.answer_to_text(runner, str(text), settings)
    # What was told of the recording itself comes first.
    answer["warnings"] = [*answer.get("warnings", ()), *notes]
    if text is not None:
        of_text = [note for note, kind in notes.items() if issubclass(kind, TextWarning)]
        answer |= {"text": text, "text_warnings": of_text}
    return answer


def line_of(answer: Mapping[str, Any]) -> str:
    """An answer in one line, behind the name of its recording or text."""
    unsure = f", unsure: {answer['reason']}" if answer["unsure"] else ""
    values = _values_of(answer)
    if answer["label"] is None:
        line = values + unsure
    else:
        ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
        listed = "  ".join(f"{name} {100 * share:.1f} %" for name, share in ranked)
        line = f"{answer['label']}{unsure} ({listed})" + (f"; {values}" if values else "")
    if answer.get("windows", 1) > 1:
        rest = {} if answer["time_shares"] else {formats.SPEECH: 1 - sum(answer["unsure_shares"].values())}
        times = [*answer["time_shares"].items(), *rest.items()]
        times += [(f"{UNSURE} ({why})", share) for why, share in answer["unsure_shares"].items()]
        ranked = sorted(times, key=lambda item: -item[1])
        shown = [f"{name} {100 * share:.0f} %" for name, share in ranked if share > 1e-9]
        line += f"; {answer['seconds']:.1f} s in {answer['windows']} windows: {', '.join(shown)} of the time"
    elif answer.get("seconds", 0) > (end := answer.get("heard", [0, 0]))[1] - end[0]:
        line += f"; {answer['warnings'][0].removesuffix('.')}"
    if answer.get("speaker_clips"):
        line += f"; {formats.clips(answer['speaker_clips'])} of the speaker"
    return line


def _values_of(answer: Mapping[str, Any]) -> str:
    """The dimensions and their scale in words; empty where there are none."""
    if "dimensions" not in answer:
        return ""
    dimensions = Dimensions(tuple(answer["dimensions"]), answer["dimension_range"])
    values = formats.dimensions_line(answer["dimensions"].values(), dimensions)
    return f"{values} ({dimensions.range[0]:g} to {dimensions.range[1]:g})"


def _transcripts(table: Path) -> list[tuple[str, str]]:
    """Path and transcript of each row of a table; the path is empty where there is no such column."""
    read = Table(table, kind="table of transcripts")
    header = read.header
    rows = [(line, row) for line, row in read.body() if row]
    if "transcript" not in header:
        raise UserError(
            f"{table}: the header lacks transcript; expected path,transcript, "
            f"found {','.join(header) or 'nothing'}."
        )
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(
                f"{table}, line {line}: {len(row)} cells, but the header has {len(header)}. A cell that "
                "holds the delimiter needs quotes around it."
            )
    if not rows:
        raise UserError(f"{table} lists no texts.")
    cells = [dict(zip(header, row, strict=True)) for _, row in rows]
    return [(row.get("path", "").strip(), row["transcript"].replace("\r\n", "\n").strip()) for row in cells]


def _by_file_name(table: Sequence[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    named: dict[str, list[tuple[str, str]]] = {}
    for path, text in table:
        named.setdefault(nfc(Path(path).name), []).append((path, text))
    return named


def _transcript_of(recording: str, texts: Mapping[str, Sequence[tuple[str, str]]], table: Path) -> str:
    """The text of the row with the recording's file name; of several, of that with its whole path."""
    rows = texts.get(nfc(Path(recording).name), ())
    if len({text for _, text in rows}) > 1:
        whole = Path(recording).resolve()
        rows = [row for row in rows if whole in (Path(row[0]).resolve(), (table.parent / row[0]).resolve())]
    distinct_texts = {text for _, text in rows}
    if len(distinct_texts) != 1:
        raise UserError(
            f"{recording}: {table} has {'several texts' if distinct_texts else 'no text'} for it; "
            "expected one row with its path."
        )
    return distinct_texts.pop()
