"""The parts of an exported file, each converted by itself: front end, student, softmax, second head."""

import functools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from absl import logging as absl_logging
from tensorflow.lite.python.convert_phase import ConverterError

from light_sernet_kd import runner
from light_sernet_kd.export.flatbuffer import ExportError, Part
from light_sernet_kd.features import front_end_model
from light_sernet_kd.students.enrolled import EnrolledHead, pooled_stages


def traced(function: Callable, shape: Sequence[int], name: str):
    """A TensorFlow function of one clip."""
    return tf.function(function).get_concrete_function(tf.TensorSpec((1, *shape), tf.float32, name=name))


def converted(function, precision: str, features: Iterable[np.ndarray] = ()) -> bytes:
    """A flatbuffer of one part; `features` are what int8 is calibrated with.

    Raises:
        ExportError: the part has operations that TFLite lacks.
    """
    # Without `trackable_obj` the converter freezes the variables in memory, and says that this is deprecated;
    # with it, it writes a SavedModel for every precision and takes three times as long.
    absl_level = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.ERROR)
    # TensorFlow warns of every lookup table in the process, such as those of keras-hub's tokenisers.
    logger, level = tf.get_logger(), tf.get_logger().level
    logger.setLevel("ERROR")
    try:
        with runner.without_chatter(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected")
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            if precision != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if precision == "int8":
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.representative_dataset = functools.partial(_one_by_one, features)
            return converter.convert()
    except ConverterError as error:
        if not (lacking := re.findall(r"'tf\.(\w+)' op is neither", str(error))):
            raise
        raise ExportError(f"operations that TFLite lacks: {', '.join(sorted({*lacking}))}") from error
    finally:
        absl_logging.set_verbosity(absl_level)
        logger.setLevel(level)


def _one_by_one(features: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    for clip in features:
        yield [clip[None]]


@functools.lru_cache(maxsize=4)
def front_end_function(front_end: str, input_type: str, samples: int):
    model = front_end_model(front_end, input_type, samples)
    return traced(lambda tensor: model(tensor, training=False), (samples,), "audio")


@functools.lru_cache(maxsize=4)
def front_end_part(front_end: str, input_type: str, samples: int) -> bytes:
    model = front_end_model(front_end, input_type, samples, on_device=True)
    function = traced(lambda tensor: model(tensor, training=False), (samples,), "audio")
    return converted(function, "float32")


@functools.lru_cache(maxsize=4)
def softmax_part(classes: int, temperature: float = 1.0) -> bytes:
    # SOFTMAX has a factor of its own, beta, but XNNPACK takes it with a beta of 1 alone.
    def scaled(logits):
        return tf.nn.softmax(logits if temperature == 1 else logits * (1 / temperature))

    return converted(traced(scaled, (classes,), "logits"), "float32")


def enrolled_part(head: EnrolledHead) -> Part:
    """From the student's stages and what is known of the speaker."""
    width = len(head.mean)

    def answer(*inputs):
        *stages, speaker, clips = inputs
        embedding = pooled_stages(stages)
        share = clips / (clips + head.prior_clips)
        about = embedding - (head.mean + share * (speaker - head.mean))
        return tf.nn.softmax(tf.matmul(about, head.weights) + head.bias), embedding

    takes = {f"stage{number}": shape for number, shape in enumerate(head.stages)}
    takes |= {"speaker": (width,), "clips": (1,)}
    specs = [tf.TensorSpec((1, *shape), tf.float32, name=name) for name, shape in takes.items()]
    function = tf.function(answer).get_concrete_function(*specs)
    # Half of the bytes, and its roundings are far below those of any student but float32's.
    return Part("enrolled", converted(function, "float16"), gives=("probabilities", "embedding"))
