"""Why a student says what it says: Grad-CAM, attention, maps of its embeddings, its likeness to its teacher.

What works on arrays comes first; `explain` reads a finished run's folder and writes the page and pictures of
one utterance. TensorFlow is imported where a network runs, so that a wrong name is told at once.
"""

import difflib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from light_sernet_kd import audio, teachers
from light_sernet_kd.analysis.compare import Run, read_run
from light_sernet_kd.arrays import ArrayError, Expected, read_arrays
from light_sernet_kd.config import SAMPLE_RATE, Settings, distillation_spec, make_settings
from light_sernet_kd.corpora import Corpus, Utterance
from light_sernet_kd.data.selection import Selection, loaded
from light_sernet_kd.errors import UserError, nfc
from light_sernet_kd.evaluation import Predictions, softmax
from light_sernet_kd.files import JsonError, path_part, read_json, write_arrays, write_json, write_text
from light_sernet_kd.registries.encoders import audio_encoder
from light_sernet_kd.registries.students import is_multimodal
from light_sernet_kd.reporting import figures
from light_sernet_kd.reporting.report import markdown_table, plain

if TYPE_CHECKING:
    import keras

    from light_sernet_kd.encoders.multimodal import SpeechAndText

# Logits may differ from those stored by this share of the largest one: processors round differently, and a
# recording that was changed moves them by more.
TOLERANCE = 0.01
NEAREST = 5
MOST_FOLDS = 4
# In a fold's folder: its teacher's text states of its test utterances.
TEACHER_STATES = "test_teacher_states.npz"


# What a network looks at.


def grad_cam(student: "keras.Model", features: ArrayLike, class_index: int) -> NDArray[np.float32]:
    """Where in the features a student finds a class: Grad-CAM of its last convolutional layer.

    The layer's maps, each weighted by the mean gradient of the class's logit over them, are summed; what
    speaks against the class is set to 0.

    Args:
        student: features `(batch, frames, bands, channels)` to logits.
        features: `(frames, bands, channels)`, of one utterance.

    Returns:
        `(frames, bands)`, at least 0; brought from the layer's few positions to the features' by bilinear
        interpolation, so no finer than those (`map_positions`). With a student whose logits are linear in
        the maps' means, the layer's positions would sum to what of the logit speaks for the class.

    Raises:
        UserError: the student has no convolutional layer.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    import keras
    import tensorflow as tf

    both = keras.Model(student.inputs[0], [_last_maps(student), student.outputs[0]])
    batch = tf.convert_to_tensor(np.asarray(features)[None])
    with tf.GradientTape() as tape:
        tape.watch(batch)
        maps, logits = both(batch, training=False)
        logit = logits[0, class_index]
    weights = tf.reduce_mean(tape.gradient(logit, maps), axis=(1, 2), keepdims=True)
    found = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1, keepdims=True))
    return np.asarray(tf.image.resize(found, batch.shape[1:3])[0, ..., 0], np.float32)


def map_positions(student: "keras.Model") -> tuple[int, int]:
    """(along time, along frequency): how many positions the layer that `grad_cam` reads has."""
    _, frames, bands, _ = _last_maps(student).shape
    return int(frames), int(bands)


def has_maps(student: "keras.Model") -> bool:
    """Whether `grad_cam` can be had: one input, of features, and a convolutional layer."""
    return len(student.inputs) == 1 and bool(_all_maps(student))


def _all_maps(student: "keras.Model") -> list[Any]:
    import keras

    outputs = [layer.output for layer in student.layers if not isinstance(layer, keras.layers.InputLayer)]
    return [output for output in outputs if not isinstance(output, list | dict) and len(output.shape) == 4]


def _last_maps(student: "keras.Model") -> Any:
    maps = _all_maps(student)
    if not maps:
        raise UserError(f"{student.name} has no convolutional layer, which Grad-CAM reads.")
    return maps[-1]


def shortest_span(values: ArrayLike, share: float = 0.5) -> tuple[int, int]:
    """The shortest run of entries, from `first` to before `end`, that holds `share` of the sum.

    Args:
        values: `(entries,)`, none negative; of all zeros the whole is the answer.
    """
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
    if not sums[-1]:
        return 0, len(sums) - 1
    # the slack is for the rounding of the sums
    ends = np.searchsorted(sums, sums[:-1] + (share - 1e-9) * sums[-1])
    firsts = np.flatnonzero(ends < len(sums))
    first = firsts[np.argmin(ends[firsts] - firsts)]
    return int(first), int(ends[first])


# Maps of embeddings.


@dataclass(frozen=True)
class Projection:
    """Embeddings on a plane: points `(utterances, 2)` and what to write at the two axes."""

    points: NDArray[np.float64]
    axes: tuple[str, str]


def projected(embeddings: ArrayLike, how: Literal["pca", "tsne"] = "pca", *, seed: int = 0) -> Projection:
    """Embeddings `(utterances, width)` on a plane.

    Args:
        how: `pca`, the two directions of the largest variance, with their shares of it; or `tsne`, which
            keeps neighbours together: distances across it, and its axes, mean nothing.
        seed: of t-SNE.

    Raises:
        ValueError: fewer than 4 utterances for t-SNE.

    Source: van der Maaten and Hinton 2008, Visualizing Data using t-SNE, JMLR 9, for `tsne`; the perplexity
    is 30, or less where a third of the utterances are fewer.
    """
    embeddings = np.asarray(embeddings, np.float64)
    count = len(embeddings)
    # where all are the same point, nothing has a direction
    varies = count > 1 and np.ptp(embeddings, axis=0).any()
    if how == "tsne":
        if count < 4:
            raise ValueError(f"t-SNE of {count} utterances; it needs at least 4")
        points = np.zeros((count, 2))
        if varies:
            from sklearn.manifold import TSNE
            from threadpoolctl import threadpool_limits

            perplexity = min(30.0, (count - 1) / 3)
            init = "pca" if min(embeddings.shape) > 1 else "random"
            # on one thread: for so few points, several mostly wait for each other
            with threadpool_limits(1):
                points = TSNE(2, perplexity=perplexity, init=init, random_state=seed).fit_transform(
                    embeddings
                )
        return Projection(np.asarray(points, np.float64), ("t-SNE 1", "t-SNE 2"))
    points, shares = np.zeros((count, 2)), np.zeros(2)
    if varies:
        from sklearn.decomposition import PCA

        pca = PCA(min(2, *embeddings.shape), svd_solver="full")
        found = pca.fit_transform(embeddings)
        points[:, : found.shape[1]], shares[: found.shape[1]] = found, pca.explained_variance_ratio_
    first, second = (f"component {i + 1} ({100 * share:.0f} % of variance)" for i, share in enumerate(shares))
    return Projection(points, (first, second))


def embedding_panel(
    title: str,
    embeddings: ArrayLike,
    labels: ArrayLike,
    predicted: ArrayLike,
    *,
    how: Literal["pca", "tsne"] = "pca",
    mark: int | None = None,
) -> figures.Panel:
    """A panel of `figures.embeddings`: utterances on a plane, marked by whether the student was right.

    Args:
        embeddings: `(utterances, width)`; labels, predicted: class indices `(utterances,)`.
        mark: the utterance that gets a ring.
    """
    plane = projected(embeddings, how)
    right = np.asarray(labels) == np.asarray(predicted)
    groups = np.where(right, "right", "wrong").tolist()
    return figures.Panel(title, plane.points, np.asarray(labels), groups, plane.axes, mark)


def fold_panels(
    tested: Sequence[tuple[str, ArrayLike, ArrayLike, ArrayLike]], folds: int
) -> tuple[list[figures.Panel], list[str]]:
    """Panels and notes of `figures.embeddings` for a run's report: the PCA of each fold's test utterances.

    Every fold has a student of its own, whose embeddings mean nothing beside another's: folds share no panel.

    Args:
        tested: (fold, embeddings `(utterances, width)`, labels, predicted); the first `MOST_FOLDS` are shown.
        folds: how many the run has.
    """
    panels = [embedding_panel(f"fold {name}", *arrays) for name, *arrays in tested[:MOST_FOLDS]]
    notes = ["test utterances by the student's embedding; each fold's student has axes of its own"]
    if len(panels) < folds:
        notes.append(f"{len(panels)} of {folds} folds")
    return panels, notes


# Student and teacher beside each other.


def cosine_similarity(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Cosine of the angle between rows of one width: `(..., width)` twice to `(...)`.

    It says something of a student and a teacher only where the student was trained to have the teacher's
    states: elsewhere equal coordinates mean different things. NaN where either row is all zeros: padding.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"rows of shapes {first.shape} and {second.shape}; compare those by linear_cka")
    return np.einsum("...i,...i->...", *(_unit(rows) for rows in (first, second)))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1; NaN for a row of zeros."""
    # divided by the largest first: squares of very small or large numbers leave the floats
    largest = np.abs(rows).max(axis=-1, keepdims=True)
    scaled = np.divide(rows, largest, out=np.full_like(rows, np.nan), where=largest > 0)
    return scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)


def similarity_matrix(embeddings: ArrayLike) -> NDArray[np.float64]:
    """Cosine similarity of every utterance with every other: `(utterances, width)` to a square matrix.

    It has one shape whatever the width, so students and teachers can be compared by it.

    Source: Tung and Mori 2019, arXiv:1907.09682, who distil such matrices.
    """
    rows = _unit(np.asarray(embeddings, np.float64))
    return rows @ rows.T


def linear_cka(first: ArrayLike, second: ArrayLike) -> float:
    """How alike two networks arrange the same utterances: linear centred kernel alignment, from 0 to 1.

    It changes neither with a rotation nor with a scaling of either, so widths may differ. With few
    utterances and wide embeddings it is high even by chance. NaN where either has all utterances in one
    place.

    Args:
        first, second: `(utterances, width)`, of any two widths.

    Source: Kornblith et al. 2019, arXiv:1905.00414, equation 3 with a linear kernel.
    """
    centred = []
    for rows in (first, second):
        rows = np.asarray(rows, np.float64)
        rows = rows - rows.mean(axis=0)
        centred.append(rows / (np.abs(rows).max() or 1.0))
    if len(centred[0]) != len(centred[1]):
        raise ValueError(f"{len(centred[0])} and {len(centred[1])} utterances; expected the same ones")
    x, y = centred
    # Of the smaller of the two products, widths or utterances: both have the same Frobenius norms.
    if len(x) < max(x.shape[1], y.shape[1]):
        kernels = (x @ x.T, y @ y.T)
        both, alone = np.vdot(*kernels), [np.linalg.norm(kernel) for kernel in kernels]
    else:
        both, alone = np.linalg.norm(x.T @ y) ** 2, [np.linalg.norm(rows.T @ rows) for rows in (x, y)]
    return float(both / (alone[0] * alone[1])) if alone[0] and alone[1] else float("nan")


def attention_labels(
    tokens: Sequence[str], patches: int, *, patch_seconds: float = 0.96, hop_seconds: float | None = None
) -> list[str]:
    """The names of a sequence of text tokens followed by audio patches: patches are named in seconds.

    Args:
        patches: how many of the recording's own; padding is left out.
        patch_seconds: how long one is; VGGish's are 0.96 s.
        hop_seconds: from one patch to the next; by default they follow one another without overlap.
    """
    hop = patch_seconds if hop_seconds is None else hop_seconds
    digits = 2 if round(100 * hop) % 10 or round(100 * patch_seconds) % 10 else 1
    times = [
        f"{number * hop:.{digits}f}–{number * hop + patch_seconds:.{digits}f} s" for number in range(patches)
    ]
    return [*tokens, *times]


def write_text_states(fold_folder: Path, batches: Iterable[np.ndarray]) -> None:
    """Keep a teacher's text states of a fold's test utterances, `(batch, tokens, width)` at a time; padding,
    rows of zeros, is left out.
    """
    own = [rows[rows.any(axis=-1)] for batch in batches for rows in batch]
    arrays = {"states": np.concatenate(own), "tokens": np.array([len(rows) for rows in own])}
    write_arrays(fold_folder / TEACHER_STATES, arrays)


def read_text_states(fold_folder: Path) -> list[np.ndarray]:
    """What `write_text_states` kept: `(tokens, width)` of each utterance.

    Raises:
        UserError: the file is damaged.
    """
    path = fold_folder / TEACHER_STATES
    expected = {"states": Expected((None, None)), "tokens": Expected((None,), "iu")}
    try:
        stored = read_arrays(path, expected=expected)
    except (FileNotFoundError, NotADirectoryError, ArrayError):
        stored = {}
    if not stored or stored["tokens"].sum() != len(stored["states"]) or (stored["tokens"] < 0).any():
        raise UserError(f"{path} is damaged: remove it, and the teacher's text states are not compared.")
    return np.split(stored["states"], np.cumsum(stored["tokens"])[:-1])


# One utterance of a finished run.


def worst(predictions: Predictions, count: int) -> list[str]:
    """Ids of the `count` most confident mistakes, the most confident first; fewer where there are fewer."""
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    confidence = predictions.probabilities[wrong, predictions.predicted[wrong]]
    ranked = wrong[np.argsort(-confidence, kind="stable")]
    return list(dict.fromkeys(predictions.ids[row] for row in ranked))[:count]


def chosen(folder: Path, utterance: str | None = None, worst_count: int = 0) -> list[str]:
    """The ids to explain: `utterance`, or the run's `worst_count` most confident mistakes.

    Raises:
        UserError: no finished run there, it did not test the utterance, or it made no mistake.
    """
    predictions = _read(folder).predictions
    if utterance is not None:
        _row_of(predictions, utterance, folder)
        return [utterance]
    found = worst(predictions, worst_count)
    if not found:
        raise UserError(f"{folder} made no mistake on its {len(predictions.ids)} test utterances.")
    return found


def explain(folder: Path, utterance: str, *, data: Path, out: Path | None = None) -> Path:
    """Explain one answer of a finished run; returns the folder of its page and pictures.

    Args:
        folder: the run's, with config.json, predictions.csv, metrics.json and its folds' students.
        utterance: id of a recording that the run tested.
        data: holds the corpora's folders.
        out: gets a folder named after the utterance; by default `explain` in the run's folder.

    Raises:
        UserError: no finished run, an utterance it did not test, or recordings that are gone or changed.
    """
    return explained(folder, [utterance], data=data, out=out)[0]


def explained(folder: Path, utterances: Sequence[str], *, data: Path, out: Path | None = None) -> list[Path]:
    """As `explain`, of several utterances: each fold's student and features are read once."""
    run = _read(folder)
    rows = [_row_of(run.predictions, name, folder) for name in utterances]
    settings = make_settings(**run.settings)
    corpus = loaded(settings, data)
    source = _Source(folder, run, settings, corpus, data)
    into = [(out or folder / "explain") / path_part(name) for name in utterances]
    for fold in dict.fromkeys(run.predictions.folds[row] for row in rows):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
            tested = _tested(source, fold, Path(work))
            for row, path in zip(rows, into, strict=True):
                if run.predictions.folds[row] == fold:
                    _write(tested, tested.rows.index(row), path)
            del tested  # its features may be mapped from a file in `work`
    return into


@dataclass(frozen=True)
class _Source:
    """A run's folder, what it says of itself, its corpus, and the folder of corpora."""

    folder: Path
    run: Run
    settings: Settings
    corpus: Corpus
    data: Path


@dataclass(frozen=True)
class _Tested:
    """A fold's student and what it says of its test utterances, in the order of predictions.csv.

    Attributes:
        rows: of predictions.csv.
        inputs: what the student takes, by the names of its inputs; rows as `utterances`.
        embeddings: `(utterances, width)`; `teacher_embeddings` `(utterances, any width)` where known.
        teacher_logits: `(utterances, classes)` that the student learned from; None without a teacher.
        teacher_note: why there are no embeddings of the teacher; empty where there are.
        both: the encoders of a student of speech and text.
        tokens: each utterance's, where the student reads text.
        text_states: each utterance's `(tokens, width)`, where it does.
        teacher_text_states: likewise, of the same tokens, where they are known; `states_note` says why not,
            if the student reads text and has a teacher.
    """

    source: _Source
    fold: str
    rows: list[int]
    utterances: tuple[Utterance, ...]
    student: "keras.Model"
    inputs: dict[str, Any]
    logits: NDArray[np.float32]
    stored_logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    teacher_logits: NDArray[np.float32] | None
    teacher_embeddings: NDArray[np.float32] | None
    teacher_note: str
    both: "SpeechAndText | None" = None
    tokens: Sequence[Sequence[str]] = ()
    text_states: Sequence[np.ndarray] = ()
    teacher_text_states: Sequence[np.ndarray] | None = None
    states_note: str = ""

    @property
    def states_were_taught(self) -> bool:
        """Whether a loss compared the text states."""
        return distillation_spec.parse(self.settings.distillation).needs_states

    @property
    def run(self) -> Run:
        return self.source.run

    @property
    def settings(self) -> Settings:
        return self.source.settings

    @property
    def corpus(self) -> Corpus:
        return self.source.corpus

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.run.predictions.labels[self.rows]

    @property
    def predicted(self) -> NDArray[np.int64]:
        return self.run.predictions.predicted[self.rows]


def _read(folder: Path) -> Run:
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: name a run's, such as result/demo.")
    return read_run(folder)


def _row_of(predictions: Predictions, utterance: str, folder: Path) -> int:
    utterance = nfc(utterance)
    if utterance in predictions.ids:
        return predictions.ids.index(utterance)
    lower = {name.lower(): name for name in reversed(predictions.ids)}
    near = difflib.get_close_matches(utterance.lower(), lower, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(lower[name] for name in near)}?" if near else "Its ids"
    more = "" if near else f" are like {predictions.ids[0]}; predictions.csv lists them."
    tested = f"{folder} tested no utterance {utterance!r} among its {len(predictions.ids)}."
    raise UserError(f"{tested} {hint}{more}")


def inputs_of(
    settings: Settings, utterances: Sequence[Utterance], *, work: Path, both: "SpeechAndText | None" = None
) -> dict[str, Any]:
    """What a run's student takes of these utterances: input name → rows in their order.

    Args:
        work: an empty folder; what does not fit into memory is kept there.
        both: of a student of speech and text, its encoders for these utterances.
    """
    if both and not both.is_whole:
        return both.states.columns
    inputs: dict[str, Any] = {}
    if both and both.text:
        from light_sernet_kd.encoders.text import texts_of

        tokens = both.text.tokeniser(texts_of(utterances).cleaned)
        inputs |= {"token_ids": tokens.token_ids, "text_mask": tokens.text_mask}
    if both is None or both.hearing:
        inputs["features"] = _features(settings, utterances, "vggish" if both else settings.front_end, work)
    return inputs


def _features(settings: Settings, utterances: Sequence[Utterance], front_end: str | None, work: Path) -> Any:
    from light_sernet_kd.data import feature_cache

    reader = feature_cache.SOUNDFILE
    if settings.reader != "soundfile":
        from light_sernet_kd.data import tfio_reader

        reader = tfio_reader.TFIO
    return feature_cache.features(
        utterances,
        audio.fingerprints(utterances),
        front_end=str(front_end),
        input_type=settings.input_type,
        samples=settings.samples,
        cache=feature_cache.Cache(work, "ram"),
        reader=reader,
    )


def _speech_and_text(
    source: _Source, utterances: tuple[Utterance, ...], *, work: Path, is_teacher: bool = False
) -> "SpeechAndText | None":
    """The encoders of the run's student (or its own teacher) for these utterances; None of another kind."""
    settings = source.settings
    name = settings.trained_teacher if is_teacher else settings.student
    if not is_multimodal(name):
        return None
    from light_sernet_kd.encoders.multimodal import SpeechAndText

    skipped = {each["id"] for each in source.run.metrics["skipped"]}
    every = tuple(each for each in source.corpus.utterances if each.id not in skipped)
    selection = Selection(source.corpus, every, [], {}, source.run.predictions.classes, [])
    cache = source.folder.resolve().parent / ".cache" / "embeddings"
    both = SpeechAndText(
        name,
        settings,
        selection,
        is_teacher=is_teacher,
        data=source.data,
        cache=cache if cache.is_dir() else work / "embeddings",
        features=lambda: None,  # inputs_of has them for these utterances
    )
    # Made of the texts of all, as a random encoder's vocabulary is; from here on only these are asked about.
    both.selection = replace(selection, utterances=utterances, fingerprints=audio.fingerprints(utterances))
    return both


def _tokens(both: "SpeechAndText", utterances: Sequence[Utterance]) -> list[list[str]]:
    """What the text encoder reads of each utterance; nothing where there is none."""
    if both.text is None:
        return []
    from light_sernet_kd.encoders.text import texts_of

    tokeniser = both.text.tokeniser
    found = tokeniser(texts_of(utterances).cleaned)
    return [
        [tokeniser.vocabulary[number] for number in ids[mask.astype(bool)]]
        for ids, mask in zip(found.token_ids, found.text_mask, strict=True)
    ]


def _tested(source: _Source, fold: str, work: Path) -> _Tested:
    predictions, corpus = source.run.predictions, source.corpus
    rows = [row for row, name in enumerate(predictions.folds) if name == fold]
    known = {utterance.id: utterance for utterance in corpus.utterances}
    if gone := [predictions.ids[row] for row in rows if predictions.ids[row] not in known]:
        raise UserError(
            f"{len(gone)} of the {len(rows)} recordings that fold {fold} tested are no longer in "
            f"{corpus.name}, e.g. {gone[0]}: put them back, or name the folder that has them with --data."
        )
    utterances = tuple(known[predictions.ids[row]] for row in rows)
    if bad := audio.find_bad(utterances):
        raise UserError(audio.listing(bad, len(utterances)) + "\n  The run tested them: put them back.")
    fold_folder = _fold_folder(source.folder, fold)
    stored, student = _stored(fold_folder)
    both = _speech_and_text(source, utterances, work=work)
    inputs = inputs_of(source.settings, utterances, work=work, both=both)
    logits, embeddings, text_states = _outputs(student, inputs, len(utterances))
    _check(logits, stored["selected"], utterances, fold)
    teacher, note = _teacher_embeddings(source.folder, fold_folder, source.settings, utterances, fold)
    of_teacher, states_note = None, ""
    if both and both.text:
        of_teacher, states_note = _teacher_text_states(source, fold_folder, both, utterances, work)
        lengths = [list(map(len, states or ())) for states in (text_states, of_teacher)]
        if of_teacher is not None and lengths[0] != lengths[1]:
            raise UserError(
                f"the teacher of fold {fold} read other texts than the student does now: put the former "
                "transcripts back, or run the experiment again."
            )
    return _Tested(
        source,
        fold,
        rows,
        utterances,
        student,
        inputs,
        logits,
        stored["selected"],
        embeddings,
        stored.get("teacher"),
        teacher,
        note,
        both,
        _tokens(both, utterances) if both else (),
        text_states,
        of_teacher,
        states_note,
    )


def _fold_folder(folder: Path, fold: str) -> Path:
    """The fold's folder, whose name may differ from the fold's where a file system would not take that."""
    for path in sorted(folder.glob("fold-*/fold.json")):
        try:
            if read_json(path, {"name": str})["name"] == fold:
                return path.parent
        except (OSError, JsonError):
            raise UserError(f"{path} is damaged: remove it, and the run's command makes it anew.") from None
    raise UserError(f"{folder} has no fold.json of fold {fold}: the run's command makes it anew.")


def _stored(folder: Path) -> tuple[dict[str, np.ndarray], "keras.Model"]:
    """The fold's test logits and its student."""
    from light_sernet_kd.training.network import load_student

    path = folder / "test_logits.npz"
    try:
        logits = read_arrays(path, expected={"selected": Expected((None, None))})
        path = folder / "student.keras"
        return logits, load_student(path)
    except (UserError, FileNotFoundError, NotADirectoryError) as error:
        state = "damaged" if path.exists() else "missing"
        raise UserError(
            f"{path} is {state}: remove {folder / 'fold.json'}, and the run's command does that fold anew."
        ) from error


def _outputs(
    student: "keras.Model", inputs: Mapping[str, Any], count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[np.ndarray]]:
    """Logits `(count, classes)`, embeddings `(count, width)` and, of a student that reads text, the states
    `(tokens, width)` of each utterance's own tokens.
    """
    import keras

    from light_sernet_kd.data.feature_cache import BATCH
    from light_sernet_kd.distillation.distiller import embedding_of
    from light_sernet_kd.students.attention import TEXT_STATES

    outputs = [student.outputs[0], embedding_of(student), *_states_of(student, TEXT_STATES)]
    model = keras.Model(student.inputs, outputs)
    found, text_states = [], []
    for start in range(0, count, BATCH):
        rows = np.arange(start, min(start + BATCH, count))
        *both, states = [*model.predict_on_batch(_given(student, inputs, rows)), ()][:3]
        found.append(both)
        text_states += [each[each.any(axis=-1)] for each in states]
    logits, embeddings = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return logits, embeddings, text_states


def _given(student: "keras.Model", inputs: Mapping[str, Any], rows: NDArray[np.int64]) -> list[np.ndarray]:
    return [np.asarray(inputs[tensor.name][rows]) for tensor in student.inputs]


def _states_of(student: "keras.Model", name: str) -> list[Any]:
    """The tensor `text_states` or `audio_states`, if the student has it."""
    from light_sernet_kd.students.fusion import tensor_of

    return [tensor_of(student, name)] if name in (layer.name for layer in student.layers) else []


def _check(logits: np.ndarray, stored: np.ndarray, utterances: Sequence[Utterance], fold: str) -> None:
    """An explanation is of the answer that was scored, so the student must give it again."""
    if logits.shape == stored.shape:
        differences = np.abs(logits - stored).max(axis=1)
        # `not <=`, so that NaN counts as different
        changed = np.flatnonzero(~(differences <= TOLERANCE * max(1.0, float(np.abs(stored).max()))))
        if not changed.size:
            return
        example = utterances[int(changed[0])]
        found = (
            f"{changed.size} of {len(utterances)} test recordings, e.g. {example.path} by "
            f"{differences[changed[0]]:.2g}"
        )
    else:
        found = f"all: {logits.shape} where {stored.shape} were stored"
    also = "or their transcripts " if utterances[0].transcript is not None else ""
    raise UserError(
        f"the student of fold {fold} now gives other logits than the run stored for {found}. The recordings "
        f"{also}have changed since: put the former ones back, or run the experiment again."
    )


def _teacher_embeddings(
    folder: Path, fold_folder: Path, settings: Settings, utterances: Sequence[Utterance], fold: str
) -> tuple[NDArray[np.float32] | None, str]:
    """The teacher's embeddings of these utterances, or why there are none."""
    if settings.teacher is None:
        return None, "The run had no teacher."
    config = read_json(folder / "config.json", {"teacher_sha256?": (str, None)})
    own = [path for path in (fold_folder / "teacher.npz", folder / "teacher.npz") if path.exists()]
    path = own[0] if own else Path(settings.teacher)
    if not path.is_file():
        return None, f"The teacher file {path} is not there, so its embeddings are not compared."
    if not own and audio.fingerprint(path) != config.get("teacher_sha256"):
        return None, f"The teacher file {path} has changed since, so its embeddings are not compared."
    teacher = teachers.read(path)
    if teacher.embeddings is None:
        return None, "The teacher's file has no embeddings to compare with."
    return teachers.aligned_embeddings(teacher, utterances, fold), ""


def _teacher_text_states(
    source: _Source,
    fold_folder: Path,
    student: "SpeechAndText",
    utterances: tuple[Utterance, ...],
    work: Path,
) -> tuple[list[np.ndarray] | None, str]:
    """The teacher's text states of each utterance's tokens, or why there are none to compare."""
    settings = source.settings
    if settings.teacher is None:
        return None, ""
    if not is_multimodal(settings.trained_teacher):
        return None, "The teacher's text states are not known: it reads no text, or came as a file."
    if (fold_folder / TEACHER_STATES).exists():
        return read_text_states(fold_folder), ""
    path = fold_folder / "teacher.npz"
    # one number for each phase of its training
    if not path.exists() or len(teachers.read(path).card.get("best_epochs", ())) != 1:
        return None, (
            "The teacher's text encoder was trained with it, and the run kept no text states of it: they "
            "are kept where teacher and student have one vocabulary."
        )
    teacher = _speech_and_text(source, utterances, work=work, is_teacher=True)
    if not (teacher and teacher.text and student.text):
        return None, ""
    if teacher.text.tokeniser.vocabulary != student.text.tokeniser.vocabulary:
        return None, "The text states of student and teacher are of different tokens: theirs differ."
    states = teacher.text_states[np.arange(len(utterances))]
    return [rows[rows.any(axis=-1)] for rows in states], ""


# The page.


@dataclass(frozen=True)
class _Axis:
    """Where the features of a clip lie: `seconds` `(frames,)` of their middles, and names of some bands."""

    seconds: NDArray[np.float64]
    label: str
    ticks: Sequence[tuple[float, str]]


def _feature_axes(settings: Settings, frames: int, bands: int) -> _Axis:
    from light_sernet_kd import features

    spectrum = features.settings_of(str(settings.front_end), settings.input_type)
    middle = 0 if spectrum.centred else spectrum.fft_length / 2
    seconds = (np.arange(frames) * spectrum.frame_step + middle) / SAMPLE_RATE
    if settings.input_type == "mfcc":
        return _Axis(seconds, "MFCC", [(number, str(number)) for number in range(0, bands, 10)])
    if settings.input_type == "spectrogram":
        hertz = np.linspace(0, SAMPLE_RATE / 2, bands)
    else:
        ends = np.array([spectrum.lowest_hz, spectrum.highest_hz])
        lowest, highest = features.hz_to_mel(ends, spectrum.mel_scale)
        hertz = features.mel_to_hz(np.linspace(lowest, highest, bands + 2)[1:-1], spectrum.mel_scale)
    marks = [250, 500, 1000, 2000, 4000] if settings.input_type == "mel_spectrogram" else range(0, 8001, 2000)
    places = np.interp(list(marks), hertz, np.arange(bands))
    return _Axis(
        seconds, "kHz", [(place, f"{mark / 1000:g}") for place, mark in zip(places, marks, strict=True)]
    )


def _write(tested: _Tested, index: int, folder: Path) -> None:
    run, classes = tested.run, tested.run.predictions.classes
    utterance = tested.utterances[index]
    label, predicted = (classes[each[index]] for each in (tested.labels, tested.predicted))
    corpus = tested.corpus.name + (" (synthetic)" if tested.corpus.synthetic else "")
    answer = f"{label}, taken for {predicted}" if label != predicted else f"{label}, recognised"
    head: dict[str, Any] = {
        "title": f"{utterance.id} of {corpus}: {answer}",
        "stamps": run.metrics["stamps"],
    }
    student, teacher = softmax(tested.logits[index]), None
    if tested.teacher_logits is not None:
        teacher = softmax(tested.teacher_logits[index])
    facts: dict[str, Any] = {
        "run": run.name,
        "student": tested.settings.student,
        "corpus": tested.corpus.name,
        "synthetic": tested.corpus.synthetic,
        "stamps": run.metrics["stamps"],
        "fold": tested.fold,
        "utterance": utterance.id,
        "recording": str(utterance.path),
        "speaker": utterance.speaker,
        "transcript": utterance.transcript,
        "label": label,
        "predicted": predicted,
        "logits": _by_class(classes, tested.logits[index]),
        "largest_difference_from_stored_logits": float(
            np.abs(tested.logits[index] - tested.stored_logits[index]).max()
        ),
        "probabilities": _by_class(classes, student),
        "teacher_probabilities": None if teacher is None else _by_class(classes, teacher),
    }
    if tested.tokens:
        facts["tokens"] = list(tested.tokens[index])
    pictures = {"probabilities.png": "Probabilities per class"}
    shares = {"student": student} | ({} if teacher is None else {"teacher": teacher})
    figures.probabilities(
        shares, classes, folder / "probabilities.png", label=int(tested.labels[index]), **head
    )
    facts["attention"] = None
    if tested.both:
        facts["grad_cam"] = None
        facts["attention"] = _draw_attention(tested, index, folder, head)
        pictures |= {
            f"{name}.png": f"Attention: {each['between']}" for name, each in facts["attention"].items()
        }
    elif has_maps(tested.student):
        pictures["grad_cam.png"] = "Waveform, features, and where the student finds the class"
        facts["grad_cam"] = _draw_grad_cam(tested, index, folder / "grad_cam.png", head)
    else:
        facts["grad_cam"] = None
    pictures["embeddings.png"] = "All test utterances of the fold by the student's embedding"
    facts["embedding"] = _draw_embeddings(tested, index, folder / "embeddings.png", head)
    facts["teacher_embedding"] = None
    if tested.teacher_embeddings is not None:
        pictures["similarity.png"] = "Likeness of the fold's test utterances to student and teacher"
        facts["teacher_embedding"] = _draw_similarity(tested, index, folder / "similarity.png", head)
    facts["teacher_embedding_note"] = tested.teacher_note
    facts["text_states"] = None
    if tested.teacher_text_states is not None:
        facts["text_states"] = _draw_states(tested, index, folder / "state_similarity.png", head)
        if facts["text_states"]["cosine_similarity"] is not None:
            pictures["state_similarity.png"] = "Likeness of the student's and the teacher's text states"
    facts["text_states_note"] = tested.states_note
    facts["pictures"] = list(pictures)
    write_text(folder / "explain.md", _page(facts, pictures))
    # last, because its presence says that the folder is complete
    write_json(folder / "explain.json", facts)


def _by_class(classes: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(classes, map(float, values), strict=True))


def _draw_grad_cam(tested: _Tested, index: int, path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """The picture, and per class where the map lies."""
    from light_sernet_kd.registries.front_ends import FRONT_ENDS

    settings, classes = tested.settings, tested.run.predictions.classes
    features = np.asarray(tested.inputs["features"][np.array([index])])[0]
    recording, pad = audio.read(tested.utterances[index].path), FRONT_ENDS[str(settings.front_end)].padding
    clip, heard = (
        audio.fit(each, settings.samples, pad=pad) for each in (recording, np.ones(len(recording)))
    )
    shown = dict.fromkeys([int(tested.predicted[index]), int(tested.labels[index])])
    maps = {classes[number]: grad_cam(tested.student, features, number) for number in shown}
    axis = _feature_axes(settings, *features.shape[:2])
    positions = map_positions(tested.student)
    samples_heard = np.flatnonzero(heard)
    begin, end = samples_heard[0] / SAMPLE_RATE, (samples_heard[-1] + 1) / SAMPLE_RATE
    recorded = (axis.seconds >= begin) & (axis.seconds < end)
    half_frame = (axis.seconds[1] - axis.seconds[0]) / 2 if len(axis.seconds) > 1 else 0.0
    facts: dict[str, Any] = {}
    for name, found in maps.items():
        first, after = shortest_span(found.sum(axis=1))
        total = float(found.sum())
        facts[name] = {
            "positions": list(positions),
            "largest": float(found.max()),
            "half_of_it_from_seconds": max(0.0, float(axis.seconds[first] - half_frame)) if total else None,
            "half_of_it_to_seconds": float(axis.seconds[after - 1] + half_frame) if total else None,
            "share_in_padding": float(found[~recorded].sum()) / total if total else None,
        }
    notes = [
        f"orange: Grad-CAM of {positions[0]} × {positions[1]} positions (time × bands)"
        + (", on one scale" if len(maps) > 1 else "")
    ]
    if len(recording) > settings.samples:
        whole = len(recording) / SAMPLE_RATE
        notes.append(f"what the student hears: the middle {end:g} s of {whole:.2f} s")
    elif not heard.all():
        notes.append("grey, in the waveform: padding")
    if nothing := [name for name, found in maps.items() if not found.any()]:
        notes.append(f"nothing speaks for {' or '.join(nothing)}: no orange")
    figures.grad_cam(
        clip,
        features[..., 0],
        maps,
        path,
        sample_rate=SAMPLE_RATE,
        recorded=(begin, end),
        frame_seconds=axis.seconds,
        band_label=axis.label,
        band_ticks=axis.ticks,
        notes=notes,
        **head,
    )
    return facts


def _draw_attention(tested: _Tested, index: int, folder: Path, head: dict[str, Any]) -> dict[str, Any]:
    """A picture for each attention layer of the head, and what it attends to most."""
    import keras

    from light_sernet_kd.students.attention import (
        AUDIO_STATES,
        TEXT_STATES,
        attention_between,
        attention_maps,
    )

    student, settings = tested.student, tested.settings
    given = _given(student, tested.inputs, np.array([index]))
    by_name = {tensor.name: values for tensor, values in zip(student.inputs, given, strict=True)}
    names: dict[str, list[str]] = {}
    real: dict[str, NDArray[np.bool_]] = {}
    for which in (TEXT_STATES, AUDIO_STATES):
        for tensor in _states_of(student, which):
            states = np.asarray(keras.Model(student.inputs, tensor)(given, training=False))[0]
            real[which] = states.any(axis=-1)
    if TEXT_STATES in real:
        names[TEXT_STATES] = list(tested.tokens[index])
    if AUDIO_STATES in real:
        encoder, _ = audio_encoder(settings.audio_encoder)
        times = attention_labels(
            [],
            len(real[AUDIO_STATES]),
            patch_seconds=encoder.window_seconds,
            hop_seconds=encoder.hop_seconds,
        )
        names[AUDIO_STATES] = [times[row] for row in np.flatnonzero(real[AUDIO_STATES])]
    heard = audio.read(tested.utterances[index].path) if AUDIO_STATES in real else ()
    facts: dict[str, Any] = {}
    for layer, weights in attention_maps(student, by_name).items():
        asking, asked = attention_between(layer)
        queries, keys = ([name for side in sides for name in names[side]] for sides in (asking, asked))
        rows, columns = (np.concatenate([real[side] for side in sides]) for sides in (asking, asked))
        own = weights[0][:, rows][:, :, columns]
        who, whom = (" and ".join(sides).replace("_states", "") for sides in (asking, asked))
        itself = "itself" if len(asking) == 1 else "themselves"
        between = f"{who} over {whom if asking != asked else itself}"
        notes = [f"{layer.replace('_', ' ')}: {between}; padding left out"]
        if len(keys) == 1:
            notes.append("there is one row to attend to, so it gets everything")
        if layer == "fusion_attention" and settings.pooling == "first":
            notes.append(f"of these the student reads the first, {queries[0]}")
        if AUDIO_STATES in {*asking, *asked} and len(heard) > settings.samples:
            end, whole = settings.samples / SAMPLE_RATE, len(heard) / SAMPLE_RATE
            notes.append(f"seconds of what the student hears: the middle {end:g} s of {whole:.2f} s")
        path = folder / f"{layer}.png"
        figures.attention(own, path, queries=queries, keys=keys, notes=notes, **head)
        shares = own.mean(axis=(0, 1))
        most = np.argsort(-shares, kind="stable")[:NEAREST].tolist()
        facts[layer] = {
            "between": between,
            "heads": len(own),
            "queries": len(queries),
            "keys": len(keys),
            "most_attended": [{"name": keys[i], "mean_attention": float(shares[i])} for i in most],
        }
    return facts


def _draw_states(tested: _Tested, index: int, path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """How alike the text states are: token by token where they are of one width, and over the fold."""
    student, teacher = tested.text_states, tested.teacher_text_states or ()
    cka = linear_cka(np.concatenate(student), np.concatenate(teacher))
    widths = [int(states[0].shape[1]) for states in (student, teacher)]
    cosines = None
    if widths[0] == widths[1]:
        tokens = tested.tokens[index]
        cosines = cosine_similarity(student[index], teacher[index])
        notes = [f"linear CKA over all tokens of fold {tested.fold}'s test utterances: {cka:.2f}"]
        if not tested.states_were_taught:
            notes.append("the student was not trained to have the teacher's states")
        figures.state_similarity(
            cosines,
            tokens,
            path,
            label="cosine similarity of student's and teacher's text states",
            notes=notes,
            **head,
        )
    return {
        "widths": widths,
        "tokens_in_fold": sum(map(len, student)),
        "linear_cka": cka if np.isfinite(cka) else None,
        "cosine_similarity": None if cosines is None else [float(each) for each in cosines],
    }


def _draw_embeddings(tested: _Tested, index: int, path: Path, head: dict[str, Any]) -> dict[str, Any]:
    embeddings, labels, predicted = tested.embeddings, tested.labels, tested.predicted
    panels = [embedding_panel("PCA", embeddings, labels, predicted, mark=index)]
    notes = [f"the {len(labels)} test utterances of fold {tested.fold}; ring: this one"]
    if len(labels) >= 4:
        panels.append(embedding_panel("t-SNE", embeddings, labels, predicted, how="tsne", mark=index))
        notes.append("t-SNE keeps neighbours together; its distances and directions mean nothing")
    figures.embeddings(panels, tested.run.predictions.classes, path, notes=notes, **head)
    return {
        "width": int(embeddings.shape[1]),
        "pca": panels[0].points[index].tolist(),
        "pca_axes": list(panels[0].axes),
        "nearest": _nearest(tested, embeddings, index),
    }


def _nearest(tested: _Tested, embeddings: np.ndarray, index: int) -> list[dict[str, Any]]:
    """The test utterances that are the most alike to the network, the most alike first."""
    row = np.nan_to_num(similarity_matrix(embeddings)[index], nan=-1.0)
    classes = tested.run.predictions.classes
    return [
        {
            "utterance": tested.utterances[other].id,
            "label": classes[tested.labels[other]],
            "cosine_similarity": float(row[other]),
        }
        for other in np.argsort(-row, kind="stable")
        if other != index
    ][:NEAREST]


def _draw_similarity(tested: _Tested, index: int, path: Path, head: dict[str, Any]) -> dict[str, Any]:
    teacher = np.asarray(tested.teacher_embeddings)
    cka = linear_cka(tested.embeddings, teacher)
    order = np.argsort(tested.labels, kind="stable")
    figures.similarity(
        {
            name: similarity_matrix(embeddings[order])
            for name, embeddings in (("student", tested.embeddings), ("teacher", teacher))
        },
        tested.labels[order],
        tested.run.predictions.classes,
        path,
        mark=int(np.flatnonzero(order == index)[0]),
        notes=[
            f"the {len(order)} test utterances of fold {tested.fold}, by emotion; triangle: this one",
            f"linear CKA of the two: {cka:.2f} (1: the same arrangement)",
        ],
        **head,
    )
    return {
        "width": int(teacher.shape[1]),
        "linear_cka": cka if np.isfinite(cka) else None,
        "nearest": _nearest(tested, teacher, index),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _page(facts: dict[str, Any], pictures: dict[str, str]) -> str:
    label, predicted, shares = facts["label"], facts["predicted"], facts["probabilities"]
    instead = "" if label == predicted else f", and {plain(label)} {_percent(shares[label])}"
    synthetic = " (SYNTHETIC)" if facts["synthetic"] else ""
    lines = [
        f"# {plain(facts['utterance'])} of {plain(facts['corpus'])}{synthetic}",
        "",
        f"Label **{plain(label)}**; the student of fold {plain(facts['fold'])} says "
        f"**{plain(predicted)}** ({_percent(shares[predicted])}){instead}.",
        "",
        *(f"**{plain(stamp)}**\n" for stamp in facts["stamps"]),
        f"Speaker {plain(facts['speaker'])}, run {plain(facts['run'])}, student {plain(facts['student'])}.",
        "",
    ]
    if facts["transcript"]:
        lines += [f"“{plain(facts['transcript'])}”", ""]
    if "tokens" in facts:
        lines += [f"As the student reads it: {plain(' '.join(facts['tokens']))}", ""]
    taught = facts["teacher_probabilities"]
    rows = [
        [plain(name), _percent(share), *([_percent(taught[name])] if taught else [])]
        for name, share in sorted(shares.items(), key=lambda item: -item[1])
    ]
    lines += markdown_table(["class", "student", *(["teacher"] if taught else [])], rows)
    lines += ["", "## What the student looked at", ""]
    for name, found in (facts["attention"] or {}).items():
        most = ", ".join(
            f"{plain(each['name'])} ({_percent(each['mean_attention'])})" for each in found["most_attended"]
        )
        lines.append(f"- {plain(name.replace('_', ' '))} ({found['between']}): the most to {most}.")
    if facts["grad_cam"] is None and not facts["attention"]:
        lines += ["No Grad-CAM: this student has no convolutional layer over features alone.", ""]
    for name, found in (facts["grad_cam"] or {}).items():
        if found["half_of_it_from_seconds"] is None:
            lines.append(f"- {plain(name)}: nothing in the features speaks for it.")
            continue
        begin, end = found["half_of_it_from_seconds"], found["half_of_it_to_seconds"]
        padding = f"{_percent(found['share_in_padding'])} of it lies on padding"
        lines.append(f"- {plain(name)}: half of its map lies from {begin:.2f} to {end:.2f} s; {padding}.")
    lines += ["", "## What is alike", ""]
    for who, key in (("student", "embedding"), ("teacher", "teacher_embedding")):
        if facts[key]:
            alike = "; ".join(
                f"{plain(each['utterance'])} ({plain(each['label'])}, {each['cosine_similarity']:.2f})"
                for each in facts[key]["nearest"]
            )
            lines += [f"To the {who}, by cosine similarity: {alike or 'there is no other utterance'}.", ""]
    if facts["teacher_embedding"]:
        cka = facts["teacher_embedding"]["linear_cka"]
        said = "undefined, all in one place" if cka is None else f"{cka:.3f}"
        lines.append(f"Linear CKA of student and teacher over the fold's test utterances: {said}.")
    else:
        lines.append(plain(facts["teacher_embedding_note"]))
    if states := facts["text_states"]:
        cka, cosines = states["linear_cka"], states["cosine_similarity"]
        widths = " and ".join(map(str, states["widths"]))
        alike = (
            f"no cosine similarity, because they are {widths} wide"
            if cosines is None
            else f"cosine similarity {np.mean(cosines):.3f} in the mean over this text's tokens"
        )
        said = "undefined" if cka is None else f"{cka:.3f}"
        lines += [
            "",
            f"Text states of student and teacher: {alike}; linear CKA over the {states['tokens_in_fold']} "
            f"tokens of the fold's test utterances: {said}.",
        ]
    elif facts["text_states_note"]:
        lines += ["", plain(facts["text_states_note"])]
    for name, caption in pictures.items():
        lines += ["", f"![{caption}]({name})"]
    return "\n".join(lines) + "\n"
