"""What exported files cost on this machine, and how well they answer: size, work, time, memory, UA.

Nothing here needs TensorFlow. Times are those of one `invoke`, from inputs that are set to an output that can
be read: reading, resampling and tokenising are left out. Files take turns, so that whatever else the machine
does slows all of them alike; still, compare ratios and not the times of different days.
"""

import functools
import math
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from light_sernet_kd import audio, evaluation, runner
from light_sernet_kd.corpora.registry import load, origin
from light_sernet_kd.data import training_list
from light_sernet_kd.data.selection import CorpusPart, named_folds
from light_sernet_kd.errors import UserError
from light_sernet_kd.files import write_json, write_text
from light_sernet_kd.reporting.tables import markdown_table
from light_sernet_kd.reporting.text import NONE, plain, pluralise

if TYPE_CHECKING:
    from rich.console import Console

WARM_UP = 5
# Fewer say nothing of a 95th percentile, however slow the file is.
FEWEST_ROUNDS = 20
MULTIPLY_ADDS = (
    "multiply-adds of convolutions, fully connected layers and matrix products, from the shapes in the file; "
    "not of Fourier transforms, pools and what works on single values. An int8 file's average pools are "
    "depthwise convolutions, and are counted"
)
MEMORY = (
    "peak resident memory that a fresh process needs above that of Python, NumPy and LiteRT, to open and "
    "check the file and to answer once, on one thread"
)


FOLDS_UA = "UA % of the folds' students"


@dataclass(frozen=True)
class Work:
    """What a file's graph holds and does; multiply-adds as `MULTIPLY_ADDS` says.

    Attributes:
        operators: how many of each operation.
        weights: numbers in the kernels and biases of the layers that are counted, with those of the front
            end.
        front_end, network: multiply-adds of each for one clip or text.
    """

    operators: dict[str, int]
    weights: int
    front_end: int
    network: int


def work(content: bytes) -> Work:
    """What the first graph of a TFLite flatbuffer does. Operations of the front end are known by name."""
    model = schema.ModelT.InitFromPackedBuf(content)
    graph = model.subgraphs[0]
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}
    operators: Counter[str] = Counter()
    multiply_adds = {"front_end": 0, "network": 0}
    weights: dict[int, int] = {}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        # Numbers up to 127 are in the older, 8-bit field.
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        operators[code.customCode.decode() if code.customCode else name] += 1
        output = graph.tensors[operator.outputs[0]]
        part = "front_end" if (output.name or b"").startswith(b"front_end/") else "network"
        shapes = [_shape(graph.tensors[i]) if i >= 0 else () for i in operator.inputs]
        multiply_adds[part] += _multiply_adds(name, shapes, _shape(output), operator.builtinOptions)
        if name in _LAYERS:
            for index in operator.inputs[1:3]:
                buffer = graph.tensors[index].buffer if index >= 0 else 0
                data = model.buffers[buffer].data
                if data is not None and len(data):
                    weights[int(index)] = math.prod(_shape(graph.tensors[index]))
    return Work(dict(operators.most_common()), sum(weights.values()), **multiply_adds)


def _shape(tensor: schema.TensorT) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(length) for length in tensor.shape)


_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "TRANSPOSE_CONV")


def _multiply_adds(name: str, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...], options) -> int:
    """Of one operation; 0 of one that is not counted."""
    if name not in _LAYERS:
        return 0
    size = math.prod(output)
    if name == "CONV_2D":  # the kernel is (out, height, width, in per group)
        return size * math.prod(shapes[1][1:])
    if name == "DEPTHWISE_CONV_2D":  # (1, height, width, out)
        return size * math.prod(shapes[1][1:3])
    if name == "FULLY_CONNECTED":  # (out, in)
        return size * shapes[1][-1]
    if name == "TRANSPOSE_CONV":  # of (output shape, kernel (out, height, width, in), input)
        return math.prod(shapes[2]) * math.prod(shapes[1][:3])
    return size * shapes[0][-2 if options.adjX else -1]


def delegation(interpreter) -> dict[str, Any] | None:
    """How many parts of the graph XNNPACK took, and which operations it left: `{parts, left}`.

    None where this LiteRT does not tell. An operation is in a part if what the part gives is made of it.
    """
    try:
        nodes = interpreter._get_ops_details()
    except AttributeError:
        return None
    parts = [node for node in nodes if node["op_name"] in ("DELEGATE", "TfLiteXNNPackDelegate")]
    operators = [node for node in nodes if node not in parts]
    maker = {int(tensor): node["index"] for node in operators for tensor in node["outputs"]}
    made_of = {node["index"]: [int(i) for i in node["inputs"]] for node in operators}
    taken: set[int] = set()
    for part in parts:
        ends = {int(tensor) for tensor in part["inputs"]}
        open_tensors = [int(tensor) for tensor in part["outputs"]]
        while open_tensors:
            node = maker.get(open_tensors.pop())
            if node is not None and node not in taken:
                taken.add(node)
                open_tensors += [tensor for tensor in made_of[node] if tensor not in ends]
    left = Counter(node["op_name"] for node in operators if node["index"] not in taken)
    return {"parts": len(parts), "left": dict(left.most_common())}


def example(interpreter, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Something to answer, by the names of the inputs: a noisy voice, states, or tokens without padding."""
    rng = np.random.default_rng(seed)
    values = {}
    for taken in interpreter.get_input_details():
        name, shape = taken["name"], tuple(taken["shape"][1:])
        if name == "text_mask":
            values[name] = np.ones(shape, taken["dtype"])
        elif np.issubdtype(taken["dtype"], np.integer):
            # Every vocabulary has the special tokens; the time depends on no token.
            tokens = len(runner.SPECIAL_TOKENS)
            values[name] = rng.integers(0, tokens, shape).astype(taken["dtype"])
        else:
            noise = rng.normal(size=shape)
            if name == "audio":
                seconds = np.arange(shape[-1]) / 16_000
                noise = 0.02 * noise + 0.1 * np.sin(2 * np.pi * 150 * seconds)
            values[name] = noise.astype(taken["dtype"])
    return values


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, which lies between two times as NumPy's does, in milliseconds."""
    return {
        "median_ms": 1e3 * statistics.median(seconds),
        "p95_ms": 1e3 * float(np.quantile(seconds, 0.95)),
    }


def in_turn(
    calls: Mapping[Any, Callable[[], Any]], *, rounds: int, most_seconds: float = 60.0
) -> dict[Any, list[float]]:
    """Seconds that each call took in each round; in a round each comes once, the first another each time.

    Rounds end after `most_seconds`, but not before `FEWEST_ROUNDS`.
    """
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    names = list(calls)
    found: dict[Any, list[float]] = {name: [] for name in names}
    begun = time.perf_counter()
    for number in range(rounds):
        if number >= FEWEST_ROUNDS and time.perf_counter() - begun > most_seconds:
            break
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            calls[name]()
            found[name].append(time.perf_counter() - start)
    return found


def latencies(
    paths: Sequence[Path], threads: Sequence[int], *, rounds: int, most_seconds: float = 60.0
) -> list[dict[int, dict[str, float]]]:
    """By file: threads → `{median_ms, p95_ms, processor_ms, rounds}` of one `invoke`.

    `processor_ms` is the median of the time that the process's threads ran: on one thread it is what the
    file itself takes, however busy the machine is.
    Numbers of threads are measured one after another: those of another interpreter would wait in a loop.
    """
    found: list[dict[int, dict[str, float]]] = [{} for _ in paths]
    for count in threads:
        interpreters = [_opened(path, count)[0] for path in paths]
        for interpreter in interpreters:
            runner.invoke(interpreter, example(interpreter))
        ran: list[list[float]] = [[] for _ in paths]

        def call(i: int, interpreters=interpreters, ran=ran) -> None:
            start = time.process_time()
            interpreters[i].invoke()
            ran[i].append(time.process_time() - start)

        calls = {i: functools.partial(call, i) for i in range(len(paths))}
        for i, seconds in in_turn(calls, rounds=rounds, most_seconds=most_seconds).items():
            found[i][count] = {
                **summary(seconds),
                "processor_ms": 1e3 * statistics.median(ran[i][WARM_UP:]),
                "rounds": len(seconds),
            }
    return found


def _opened(path: Path, threads: int = 1):
    try:
        return runner.open_file(path, threads=threads)
    except runner.RunnerError as error:
        raise UserError(str(error)) from None


def peak_memory(path: Path) -> int | None:
    """Bytes, as `MEMORY` says; None where the system does not tell (only Linux does)."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    package = str(Path(__file__).resolve().parent.parent)
    known = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(known)},
    )
    if done.returncode:
        raise UserError(f"{path} cannot be run in a process of its own: {done.stderr.strip()[-300:]}")
    return int(done.stdout.split()[-1])


_CHILD = "import sys; from light_sernet_kd.analysis import benchmark; print(benchmark._own_peak(sys.argv[1]))"


def _own_peak(path: str) -> int:
    """What this process, which has done nothing yet, needs for `path` at its peak."""

    def kilobytes(field: str) -> int:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status[field].split()[0])

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, behind that of the imports
    before = kilobytes("VmRSS")
    interpreter, _, _ = runner.open_file(path)
    runner.invoke(interpreter, example(interpreter))
    return 1024 * (kilobytes("VmHWM") - before)


@dataclass(frozen=True)
class Heard:
    """What files are scored on.

    Attributes:
        what: the rows in words: corpus, protocol, fold.
        origin: the corpus's own name where it is known by name; empty for a manifest.
    """

    corpus: str
    what: str
    utterances: tuple
    origin: str = ""


def heard(
    corpus: str,
    data: Path,
    *,
    fold: str | None = None,
    protocol: str | None = None,
    emotions: Sequence[str] = (),
    files: Sequence[Path] = (),
    columns: Sequence[str] = (),
) -> Heard:
    """The test recordings of a fold, or all of a corpus where none is named.

    The fold is that of the run in whose folder the files are; see `selection.named_folds`.
    """
    if fold is None:
        found = load(corpus, data, emotions=emotions, columns=columns)
        return Heard(found.name, f"all recordings of {found.name}", found.utterances, origin(corpus))
    part = CorpusPart(corpus, data, emotions=emotions, columns=columns)
    chosen = named_folds([fold], files, part, protocol=protocol)
    name = chosen.corpus.name
    what = f"the test recordings of {chosen.what} of {name}"
    return Heard(name, what, chosen.utterances, origin(corpus))


def accuracy(path: Path, rows: Heard, read: dict[Path, bytes | None] | None = None) -> dict[str, Any]:
    """UA and WA of a file on recordings, and whether its student was trained on them.

    Args:
        read: what `training_list.of_tested` read of recordings before.

    Raises:
        UserError: the file takes no audio, or none of the recordings has a label of the file's.
    """
    try:
        opened = runner.Runner(path)
        reads = opened.text is not None
        opened.require(audio=True, text=reads)
        known = [each for each in rows.utterances if each.emotion in opened.labels]
        if not known:
            raise UserError(
                f"{path} tells apart {', '.join(opened.labels)}, and {rows.what} have none of these."
            )
        if reads and (silent := [each.id for each in known if not each.transcript]):
            raise UserError(f"{path} also reads text, and {silent[0]} of {rows.corpus} has no transcript.")
        with warnings.catch_warnings(record=True) as cut:
            warnings.simplefilter("always", runner.TextWarning)
            predicted = [
                opened.probabilities(
                    audio.read(each.path, sample_rate=opened.sample_rate), each.transcript if reads else None
                ).argmax()
                for each in known
            ]
    except runner.RunnerError as error:
        raise UserError(str(error)) from None
    labels = [opened.labels.index(each.emotion) for each in known]
    trained = training_list.read(path)
    # Of a file without a list, nothing is asked that its recordings would answer.
    tested = training_list.of_tested(
        known if trained else [], corpus=rows.corpus, origin=rows.origin, read=read
    )
    asked = training_list.known(opened.card, trained, tested)
    scores = evaluation.scores(labels, predicted, opened.labels)
    return {
        "on": rows.what,
        "ua": scores.ua,
        "wa": scores.wa,
        "utterances": scores.count,
        "left_out": len(rows.utterances) - len(known),
        "texts_partly_read": sum(issubclass(each.category, runner.TextWarning) for each in cut),
        "trained_on": asked.trained_on,
        "trained_on_recordings": asked.recordings,
        "same_speaker_names": asked.speakers,
        "trained": asked.words,
    }


def folds_students(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a file's card tells of the folds' students of its run in this precision; None if it does not.

    Returns:
        `ua` and `wa`; `ua_interval`, None for too few speakers; `corpus`, `synthetic`, `protocol`, `folds`,
        `stamps` and `scored`, which says whose scores these are.
    """
    if "ua" not in card:
        return None
    told = ("corpus", "synthetic", "protocol", "folds", "stamps", "scored")
    interval = [card[end] for end in ("ua_low", "ua_high") if end in card]
    return {
        "ua": card["ua"],
        "wa": card.get("wa"),
        "ua_interval": interval if len(interval) == 2 else None,
        **{name: card.get(name) for name in told},
    }


def _checked(threads: Sequence[int] | None) -> tuple[int, ...]:
    """Numbers of threads that this machine has cores for."""
    cores = os.cpu_count() or 1
    if threads is None:
        return tuple(count for count in (1, 2) if count <= cores)
    if more := [count for count in threads if count > cores]:
        raise UserError(
            f"{pluralise(more[0], 'thread')} cannot be measured: this machine has "
            f"{pluralise(cores, 'core')}, and no file is run on more threads."
        )
    return tuple(threads)


def measure(
    paths: Sequence[Path],
    *,
    threads: Sequence[int] | None = None,
    rounds: int = 100,
    rows: Heard | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Everything about the files; see `light-sernet-kd benchmark --help`.

    Args:
        threads: by default 1 and 2, where there are two cores.

    Raises:
        UserError: a file that is none of ours or damaged, or cannot be scored on `rows`; or more threads
            than cores.
    """
    threads = _checked(threads)
    opened = [(path, *_opened(path)) for path in paths]
    files = []
    for path, interpreter, card, labels in opened:
        found = work(path.read_bytes()[: card["model_bytes"]])
        samples = card.get("samples", 0) if {"audio", "features"} & {*card.get("inputs", ["audio"])} else 0
        files.append(
            {
                "file": str(path),
                "student": card.get("student"),
                "precision": card["precision"],
                "takes": card["input"],
                "classes": len(labels),
                "seconds": samples / card["sample_rate"] if samples else None,
                "bytes": path.stat().st_size,
                "model_bytes": card["model_bytes"],
                "parameters": card.get("parameters"),
                "weights": found.weights,
                "operators": found.operators,
                "delegation": delegation(interpreter),
                "multiply_adds": {"front_end": found.front_end, "network": found.network},
                "folds_students": folds_students(card),
            }
        )
    del opened  # an interpreter's threads and memory would be measured with the others'
    for row, path in zip(files, paths, strict=True):
        progress(f"memory of {path}")
        row["peak_memory_bytes"] = peak_memory(path)
    if rows is not None:
        read: dict[Path, bytes | None] = {}
        for row, path in zip(files, paths, strict=True):
            progress(f"{rows.what} with {path}")
            row["accuracy"] = accuracy(path, rows, read)
    progress(f"times of {len(paths)} files")
    for row, times in zip(files, latencies(paths, threads, rounds=rounds), strict=True):
        row["latency"] = {
            str(count): {
                **each,
                "real_time_factor": each["median_ms"] / 1e3 / row["seconds"] if row["seconds"] else None,
            }
            for count, each in times.items()
        }
    return {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "ai_edge_litert": version("ai-edge-litert"),
        },
        "multiply_adds": MULTIPLY_ADDS,
        "peak_memory": MEMORY,
        "files": files,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _names(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """As much of each path's end as tells it from the others, without what every export is called."""
    paths = [Path(each["file"]) for each in files]
    parts = [(*path.parts[:-1], path.stem.removeprefix("student_")) for path in paths]
    names = ["/".join(each) for each in parts]
    for count in range(1, max(map(len, parts)) + 1):
        shorter = ["/".join(each[-count:]) for each in parts]
        if len({*shorter}) == len({*names}):
            return shorter
    return names


def table(measured: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and cells, a row per fact and a column per file, as text."""
    files = measured["files"]

    def optional(value: float | None, form: str) -> str:
        return NONE if value is None else format(value, form)

    def millions(value: float | None, form: str = ",.1f") -> str:
        return NONE if value is None else format(value / 1e6, form)

    def delegated(row: Mapping[str, Any], what: Callable[[Mapping[str, Any]], int]) -> str:
        return NONE if row["delegation"] is None else str(what(row["delegation"]))

    facts: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("student", lambda row: row["student"] or NONE),
        ("precision", lambda row: row["precision"]),
        ("takes", lambda row: row["takes"]),
        ("seconds heard", lambda row: optional(row["seconds"], "g")),
        ("size (kB)", lambda row: f"{row['bytes'] / 1000:,.0f}"),
        ("parameters", lambda row: optional(row["parameters"], ",")),
        ("operators", lambda row: str(sum(row["operators"].values()))),
        ("parts that XNNPACK runs", lambda row: delegated(row, lambda found: found["parts"])),
        ("operators outside", lambda row: delegated(row, lambda found: sum(found["left"].values()))),
        ("M multiply-adds, network", lambda row: millions(row["multiply_adds"]["network"])),
        ("M multiply-adds, front end", lambda row: millions(row["multiply_adds"]["front_end"])),
        ("peak memory (MB)", lambda row: millions(row["peak_memory_bytes"])),
    ]
    for count in files[0]["latency"]:

        def latency(row: Mapping[str, Any], field: str, form: str, count: str = count) -> str:
            return optional(row["latency"][count][field], form)

        what = pluralise(int(count), "thread")
        facts += [
            (f"{what}, median (ms)", functools.partial(latency, field="median_ms", form=".2f")),
            (f"{what}, p95 (ms)", functools.partial(latency, field="p95_ms", form=".2f")),
            (f"{what}, processor (ms)", functools.partial(latency, field="processor_ms", form=".2f")),
            (f"{what}, real-time factor", functools.partial(latency, field="real_time_factor", form=".5f")),
        ]
    if "accuracy" in files[0]:
        facts += [
            ("UA %", lambda row: f"{100 * row['accuracy']['ua']:.1f}"),
            ("WA %", lambda row: f"{100 * row['accuracy']['wa']:.1f}"),
        ]
    if any(row["folds_students"] for row in files):

        def interval(row: Mapping[str, Any]) -> str:
            ends = (row["folds_students"] or {}).get("ua_interval")
            return NONE if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"

        facts += [
            (FOLDS_UA, lambda row: optional((row["folds_students"] or {}).get("ua"), ".1%").rstrip("%")),
            ("95 % of it", interval),
        ]
    return ["", *_names(files)], [[name, *map(show_one, files)] for name, show_one in facts]


def notes(measured: Mapping[str, Any]) -> list[str]:
    """What must be known to read the table."""
    machine, files = measured["machine"], measured["files"]
    rounds = sorted({each["rounds"] for row in files for each in row["latency"].values()})
    counts = " to ".join(map(str, dict.fromkeys((rounds[0], rounds[-1]))))
    here = "{processor}, {cores} cores, {system}, LiteRT {ai_edge_litert}".format(**machine)
    lines = [
        f"Times: {counts} rounds in which the files took turns, after {WARM_UP} to warm up; {here}. "
        "Processor: the time that threads ran, which on one thread does not depend on what else is running.",
        f"Multiply-adds: {measured['multiply_adds']}.",
        f"Memory: {measured['peak_memory']}.",
    ]
    told = {}
    for row in files:
        if found := row.get("accuracy"):
            told[tuple(value for fact, value in found.items() if fact not in ("ua", "wa"))] = found
    for found in told.values():
        left = found["left_out"]
        apart = f", without {left} of emotions that the files do not know" if left else ""
        about = f"{found['on']}, {pluralise(found['utterances'], 'utterance')}{apart}"
        trained = found["trained"]
        # The words begin small.
        said = f"This is no test: {trained}" if found["trained_on"] else trained[:1].upper() + trained[1:]
        lines.append(f"UA and WA: on {about}. {said}.")
        if found["texts_partly_read"]:
            lines.append(f"Of {found['texts_partly_read']} texts a part was not read: they are too long.")
    return lines + _notes_on_folds(files)


def _notes_on_folds(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whose the scores of the folds' students are, a line per run."""
    told: dict[str, None] = {}
    for found in filter(None, (row.get("folds_students") for row in files)):
        synthetic = " (SYNTHETIC recordings)" if found["synthetic"] else ""
        told[
            f"{FOLDS_UA}: by the card, on {found['corpus']}{synthetic}, protocol {found['protocol']}, "
            f"{pluralise(len(found['folds'] or ()), 'fold')}: each fold's student in this precision, scored "
            "on its own test recordings. The file holds the run's final student, which no fold tested."
            + "".join(f" STAMP: {stamp}." for stamp in found["stamps"] or ())
        ] = None
    if not told:
        return []
    return [*told, f"95 % of it: {evaluation.CI_METHOD}."]


def show(measured: Mapping[str, Any], console: "Console") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    header, cells = table(measured)
    shown = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for number, name in enumerate(header):
        first = number == 0
        shown.add_column(Text(name), justify="left" if first else "right", overflow="fold", no_wrap=first)
    for row in cells:
        shown.add_row(*map(Text, row))
    console.print(shown)
    for line in notes(measured):
        console.print(Text(line), soft_wrap=True)


def write(measured: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `benchmark.json` and `benchmark.md`; returns them."""
    header, cells = table(measured)
    page = ["# Files measured", ""]
    page += markdown_table([*map(plain, header)], [[*map(plain, row)] for row in cells])
    page += ["", *(f"- {plain(line)}" for line in notes(measured)), ""]
    written = [folder / "benchmark.json", folder / "benchmark.md"]
    write_json(written[0], measured)
    write_text(written[1], "\n".join(page))
    return written
