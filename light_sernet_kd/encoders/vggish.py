"""VGGish, a network for the sounds of YouTube: patches of log-mel to embeddings, with the released weights.

The release ends before the activation of its last layer, and so do the SavedModel on Kaggle and what is here.
Its PyTorch port torchvggish, and with it 3M-SER, has a ReLU there: `relu=True`.

Source: Hershey et al. 2017, arXiv:1609.09430, and
https://github.com/tensorflow/models/tree/master/research/audioset/vggish
"""

import functools
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import keras
import numpy as np
from keras import layers, ops

from light_sernet_kd.arrays import ArrayError, Expected, read_arrays
from light_sernet_kd.encoders.embedding_cache import Encoder
from light_sernet_kd.errors import UserError, installed
from light_sernet_kd.features import LogMelPatches, patch_count, patch_ends
from light_sernet_kd.registries.front_ends import VGGISH

# Scope of a layer's variables in the release, and its width. Convolutions are 3×3, pools 2×2.
LAYERS: tuple[tuple[str, int], ...] = (
    ("conv1", 64),
    ("pool1", 0),
    ("conv2", 128),
    ("pool2", 0),
    ("conv3/conv3_1", 256),
    ("conv3/conv3_2", 256),
    ("pool3", 0),
    ("conv4/conv4_1", 512),
    ("conv4/conv4_2", 512),
    ("pool4", 0),
    ("fc1/fc1_1", 4096),
    ("fc1/fc1_2", 4096),
    ("fc2", 128),
)
WIDTH = 128
PARAMETERS = 72_141_184

FRAMES, BANDS = VGGISH.patch_frames or 0, VGGISH.mel_bands
SAVED_MODEL_ADDRESS = "https://www.kaggle.com/models/google/vggish"
CHECKPOINT_ADDRESS = "https://storage.googleapis.com/audioset/vggish_model.ckpt"
PCA_ADDRESS = "https://storage.googleapis.com/audioset/vggish_pca_params.npz"

# How many patches go through the network at once. Always as many: a batch of another size rounds differently.
_BATCH = 16
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"

Weights = Mapping[str, np.ndarray]


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """The release's variables: name, such as `vggish/conv1/weights`, to shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    height, width, channels = FRAMES, BANDS, 1
    for scope, units in LAYERS:
        if scope.startswith("pool"):
            height, width = height // 2, width // 2
            continue
        if scope.startswith("conv"):
            kernel: tuple[int, ...] = (3, 3, channels, units)
        else:
            kernel = (height * width * channels, units)
            height = width = 1
        shapes[f"vggish/{scope}/weights"], shapes[f"vggish/{scope}/biases"] = kernel, (units,)
        channels = units
    return shapes


def vggish(weights: Weights | None = None, *, patches: int, relu: bool = False) -> keras.Model:
    """VGGish from patches `(batch, patches, 96, 64)` to embeddings `(batch, patches, 128)`.

    A patch of zeros is padding, and its embedding zeros. A saved model loads without this package.

    Args:
        weights: of `read_weights` or `random_weights`; by default Keras' initial ones.
        relu: no embedding is below 0, as in torchvggish. One that is 0 all over then looks like padding.
    """
    inputs = keras.Input((patches, FRAMES, BANDS), name="patches")
    tensor = ops.reshape(inputs, (-1, FRAMES, BANDS, 1))
    flat = False
    for scope, units in LAYERS:
        name = scope.rpartition("/")[2]
        activation = "relu" if relu or scope != LAYERS[-1][0] else None
        if scope.startswith("pool"):
            tensor = layers.MaxPooling2D(name=name)(tensor)
        elif scope.startswith("conv"):
            tensor = layers.Conv2D(units, 3, padding="same", activation=activation, name=name)(tensor)
        else:
            tensor = tensor if flat else layers.Flatten()(tensor)
            flat = True
            tensor = layers.Dense(units, activation=activation, name=name)(tensor)
    embeddings = ops.reshape(tensor, (-1, patches, LAYERS[-1][1]))
    recorded = ops.any(ops.not_equal(inputs, 0.0), axis=(2, 3))[..., None]
    model = keras.Model(inputs, ops.where(recorded, embeddings, 0.0), name="vggish")
    if weights is not None:
        for scope, units in LAYERS:
            if units:
                values = [weights[f"vggish/{scope}/{part}"] for part in ("weights", "biases")]
                model.get_layer(scope.rpartition("/")[2]).set_weights(values)
    return model


def random_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights that keep the size of what passes through, biases 0; for measurements and tests.

    Source: He et al. 2015, arXiv:1502.01852, equation 10.
    """
    rng = np.random.default_rng(seed)
    made = {}
    for name, shape in weight_shapes().items():
        made[name] = np.zeros(shape, np.float32)
        if len(shape) > 1:
            rng.standard_normal(out=made[name], dtype=np.float32)
            made[name] *= np.float32(math.sqrt(2.0 / math.prod(shape[:-1])))
    return made


def weights_of(spec: str | None, data: Path) -> dict[str, np.ndarray]:
    """The weights that a user names.

    Args:
        spec: a path as of `read_weights`; `random` or `random=SEED`; None means `models/vggish` in `data`.

    Raises:
        UserError: they are not there or not VGGish's, or the seed is no whole number.
    """
    name, _, seed = (spec or "").partition("=")
    if name != "random":
        return read_weights(Path(spec) if spec else Path(data) / "models" / "vggish")
    if seed and not (seed.isascii() and seed.isdigit()):
        raise UserError(f"the seed of random VGGish weights must be a whole number, found {seed!r}.")
    return random_weights(int(seed or 0))


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """VGGish's weights, float32 by the release's variable names.

    Args:
        path: a SavedModel's folder, as from TensorFlow Hub or Kaggle; a checkpoint, by its file or the prefix
            of its files; or a folder with one of them in it.

    Raises:
        UserError: nothing is there, or what is there is not VGGish; says where it is to be had.
    """
    path = Path(path)
    remedy = f"Unpack {SAVED_MODEL_ADDRESS} there, or download {CHECKPOINT_ADDRESS} (289 MB)."
    prefix, shapes = _checkpoint_prefix(path), weight_shapes()
    if prefix is None:
        raise UserError(f"no VGGish in {path}. {remedy}")
    with installed("tensorflow", "a checkpoint of VGGish"):
        import tensorflow as tf
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        keys = _keys_by_name(reader)
        weights = {name: np.asarray(reader.get_tensor(keys[name])) for name in shapes if name in keys}
    except Exception:  # a damaged file fails in a dozen ways
        raise UserError(f"{path} is neither a SavedModel nor a checkpoint, or is damaged. {remedy}") from None
    if not weights:
        raise UserError(f"{path} is not VGGish: it has no variable {next(iter(shapes))}. {remedy}")
    for name, shape in shapes.items():
        if name not in weights:
            raise UserError(f"{path} is not the whole of VGGish: {name} is missing. {remedy}")
        values = weights[name]
        if values.shape != shape:
            raise UserError(
                f"{path} is not the released VGGish: {name} has shape {values.shape}, "
                f"expected {shape}. {remedy}"
            )
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise UserError(f"{path} is damaged: {name} holds what is no finite number. {remedy}")
    return {name: values.astype(np.float32, copy=False) for name, values in weights.items()}


def _checkpoint_prefix(path: Path) -> Path | None:
    """What TensorFlow's reader takes: the prefix of a checkpoint's files, or the one file of an old one."""
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return path / "variables" / "variables"
        inside = sorted({*path.glob("*.index"), *path.glob("*.ckpt"), *path.glob("*/saved_model.pb")})
        if len(inside) != 1:
            return None
        return _checkpoint_prefix(inside[0].parent if inside[0].suffix == ".pb" else inside[0])
    if path.suffix == ".index" and path.is_file():
        return path.with_suffix("")
    return path if path.is_file() or path.with_name(f"{path.name}.index").is_file() else None


def _keys_by_name(reader) -> dict[str, str]:
    """Variable name → key in a checkpoint: the same in one of TensorFlow 1; a SavedModel tells its own."""
    stored = reader.get_variable_to_shape_map()
    names = {name: name for name in stored}
    if _OBJECT_GRAPH in stored:
        from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

        graph = TrackableObjectGraph.FromString(reader.get_tensor(_OBJECT_GRAPH))
        attributes = (attribute for node in graph.nodes for attribute in node.attributes)
        names |= {attribute.full_name: attribute.checkpoint_key for attribute in attributes}
    return names


@dataclass(frozen=True)
class PCA:
    """What the release of AudioSet's embeddings projects them with.

    Attributes:
        eigen_vectors: `(128, 128)`, a component per row, whitened.
        means: `(128,)`, of the embeddings.
    """

    eigen_vectors: np.ndarray
    means: np.ndarray


def read_pca(path: Path) -> PCA:
    """The parameters of `postprocessed`, from an `.npz` of `pca_eigen_vectors` and `pca_means`.

    Raises:
        UserError: there is no such file, or it is another or damaged.
    """
    path = Path(path)
    expected = {"pca_eigen_vectors": Expected(), "pca_means": Expected()}
    try:
        stored = read_arrays(path, expected=expected)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no PCA parameters in {path}. Download {PCA_ADDRESS} (73 kB).") from None
    except ArrayError as error:
        raise UserError(
            f"{path} has no PCA parameters or is damaged: it {error.why}; expected an .npz of "
            f"pca_eigen_vectors and pca_means, such as {PCA_ADDRESS}."
        ) from None
    eigen_vectors = np.asarray(stored["pca_eigen_vectors"], np.float64)
    means = np.asarray(stored["pca_means"], np.float64).reshape(-1)
    if eigen_vectors.shape != (WIDTH, WIDTH) or means.shape != (WIDTH,):
        raise UserError(
            f"{path} is no PCA of VGGish's embeddings: its shapes are {eigen_vectors.shape} and "
            f"{means.shape}, expected {(WIDTH, WIDTH)} and {(WIDTH,)}."
        )
    if not (np.isfinite(eigen_vectors).all() and np.isfinite(means).all()):
        raise UserError(
            f"{path} is damaged: it has values that are not finite. Download {PCA_ADDRESS} again."
        )
    return PCA(eigen_vectors, means)


def postprocessed(embeddings: np.ndarray, pca: PCA) -> np.ndarray:
    """Embeddings `(..., 128)` as AudioSet was released: projected, clipped to ±2, uint8 from 0 to 255.

    Quantised by rounding down, as the release does; torchvggish rounds to the nearest. A row of zeros, which
    is padding, stays one.

    Source: vggish_postprocess.py of the release.
    """
    embeddings = np.asarray(embeddings, np.float64)
    projected = (embeddings - pca.means) @ pca.eigen_vectors.T
    quantised = ((np.clip(projected, -2.0, 2.0) + 2.0) * (255.0 / 4.0)).astype(np.uint8)
    return np.where(embeddings.any(axis=-1, keepdims=True), quantised, np.uint8(0))


def vggish_encoder(
    weights: Weights,
    *,
    pca: PCA | None = None,
    relu: bool = False,
    dtype: Literal["float32", "float16"] = "float16",
) -> Encoder:
    """Front end and VGGish as an encoder: waveforms of any length to rows `(patches, 128)`.

    The rows are those that `vggish` gives behind the front end `vggish`, without the zero rows at the end: a
    recording ends with its last sample that is not 0, and has one row at least.

    Args:
        weights: as of `weights_of`.
        pca: rows are then `postprocessed`.
        relu: as of `vggish`.
        dtype: as stored.
    """
    model = vggish(weights, patches=1, relu=relu)

    def encode(waveforms: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        recordings = [np.trim_zeros(np.asarray(waveform, np.float32), "b") for waveform in waveforms]
        rows = _embedded(model, itertools.chain.from_iterable(map(_patches, recordings)))
        for recording in recordings:
            embeddings = np.stack(list(itertools.islice(rows, patch_count(len(recording), VGGISH))))
            yield postprocessed(embeddings, pca) if pca else embeddings

    identity = {
        "weights_sha256": _digest(weights),
        "front_end": asdict(VGGISH),
        "relu": relu,
        "pca_sha256": _digest({"eigen_vectors": pca.eigen_vectors, "means": pca.means}) if pca else None,
    }
    return Encoder("vggish", identity, (WIDTH,), encode, dtype)


def _patches(recording: np.ndarray) -> Iterator[np.ndarray]:
    """Patches `(96, 64)` of a recording, a few at a time."""
    front_end = _front_end()
    ends = patch_ends(patch_count(len(recording), VGGISH), VGGISH)
    for part in _batches(ends):
        start = part[0] - ends[0]
        # A pause at the end of a part is no end of the recording.
        yield from np.asarray(front_end.unmasked(recording[None, start : part[-1]]))[0]


@functools.cache
def _front_end() -> LogMelPatches:
    return LogMelPatches(VGGISH)


def _batches(items: Iterable) -> Iterator[list]:
    items = iter(items)
    while batch := list(itertools.islice(items, _BATCH)):
        yield batch


def _embedded(model: keras.Model, patches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The embedding `(128,)` of each patch."""
    for batch in _batches(patches):
        full = np.zeros((_BATCH, 1, FRAMES, BANDS), np.float32)
        full[: len(batch), 0] = batch
        yield from np.asarray(model.predict_on_batch(full))[: len(batch), 0]


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(f"{name} {values.shape} {values.dtype}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
