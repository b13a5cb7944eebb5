"""The same student with the roundings of its int8 file, for training and for scores.

TFLite's full-integer graph keeps every tensor that it stores on 256 steps and computes in between with 32
bits. The twin here rounds at the same places: kernels symmetrically per output channel (before batch norm,
whose scale per channel changes nothing about it), and the tensors that remain once convolution, batch norm,
bias and ReLU are one operation. Gradients pass a rounding as if it were none (Jacob et al. 2018,
arXiv:1712.05877).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

KERNELS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
# What these give has the steps of what they take.
PASSING = (
    layers.AveragePooling2D,
    layers.MaxPooling2D,
    layers.ZeroPadding2D,
    layers.Dropout,
    layers.Flatten,
    layers.Reshape,
)


class Steps:
    """The 256 values, zero among them, that a tensor of the int8 graph can have.

    Attributes:
        low, high: its range, where it was observed; in a fixed range both are given.
    """

    def __init__(self, low: float | None = None, high: float | None = None):
        self.fixed = low is not None
        self.low = tf.Variable(low or 0.0, trainable=False, dtype=tf.float32)
        self.high = tf.Variable(high or 0.0, trainable=False, dtype=tf.float32)

    def begin(self) -> None:
        """Forget the range, which contains zero in any case."""
        if not self.fixed:
            self.low.assign(0.0)
            self.high.assign(0.0)

    def observe(self, tensor) -> None:
        if not self.fixed:
            self.low.assign(tf.minimum(self.low, tf.reduce_min(tensor)))
            self.high.assign(tf.maximum(self.high, tf.reduce_max(tensor)))

    def rounded(self, tensor):
        """`tensor` on the steps; its gradient is that of what it was, and zero where it was out of range."""
        return tf.quantization.fake_quant_with_min_max_vars(tensor, self.low, self.high)

    def rounded_mean(self, tensor):
        """The same of means of a few values on the steps, as XNNPACK rounds them in an exported file.

        Of an even number the mean is often half a step: that goes to the even one. Otherwise every pooling
        would be off by an eighth of a step on average.
        """
        size = tf.math.divide_no_nan(self.high - self.low, 255.0)
        # Means of a few are multiples of a small fraction; float32 misses the halves among them.
        number = tf.round(tf.math.divide_no_nan(tensor, size) * 4096.0) / 4096.0
        return tensor + tf.stop_gradient(size * tf.round(number) - tensor)


def rounded_kernel(kernel):
    """A kernel on 255 steps per output channel, symmetric about zero, with the gradient of the kernel.

    Args:
        kernel: `(…, inputs, outputs)`.
    """
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(kernel), axis=tuple(range(len(kernel.shape) - 1))))
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(
        kernel, -largest, largest, narrow_range=True
    )


def _rounded_kernel_of(layer: layers.Layer):
    kernel = tf.convert_to_tensor(layer.kernel)
    if not isinstance(layer, layers.DepthwiseConv2D):
        return rounded_kernel(kernel)
    # A depthwise kernel is (height, width, inputs, multiplier): the last two are the output channels.
    flat = tf.reshape(kernel, (*kernel.shape[:2], -1))
    return tf.reshape(rounded_kernel(flat), kernel.shape)


@dataclass
class _Role:
    """What an operation's output is in the int8 graph.

    Attributes:
        steps: None where the output is within a fused operation and never rounded.
        observes: whether the range follows from this output.
        rounds: whether the operation leaves the steps that it was given.
        averages: whether it does so as average pooling does.
        overwrites: steps that the converter widens by this output.
    """

    steps: Steps | None
    observes: bool = True
    rounds: bool = True
    averages: bool = False
    overwrites: Steps | None = None


class _Mode:
    """Whether a twin computes in float and observes ranges; one for all of its layers."""

    observing = False

    def then(self, role: _Role, tensor):
        """The output of an operation, as the next one finds it."""
        if role.steps is None:
            return tensor
        if self.observing:
            if role.observes:
                role.steps.observe(tensor)
            if role.overwrites:
                role.overwrites.observe(tensor)
            return tensor
        if role.averages:
            return role.steps.rounded_mean(tensor)
        return role.steps.rounded(tensor) if role.rounds else tensor


def _activation(layer) -> str:
    """The name of a layer's activation; `linear` where it has none."""
    function = getattr(layer, "activation", None)
    return "linear" if function is None else function.__name__


class _Simulated(layers.Layer):
    """A layer with a rounded kernel, a rounded output, and batch norm's statistics as they are."""

    def __init__(self, layer: layers.Layer, role: _Role, mode: _Mode):
        super().__init__(name=layer.name, dtype="float32")
        config = {**layer.get_config(), "dtype": "float32"}
        self.activation = None
        if isinstance(layer, KERNELS) and _activation(layer) not in ("linear", "relu", "relu6"):
            # The sum is stored before such an activation.
            self.activation = _activation(layer)
            config["activation"] = "linear"
        elif isinstance(layer, layers.Activation) and _activation(layer) not in ("relu", "relu6"):
            self.activation = _activation(layer)
        self.sum_role = _Role(Steps() if isinstance(layer, KERNELS) and self.activation else None)
        self.gate_role = _Role(Steps(0.0, 255 / 256), observes=False)
        self.role, self.mode = role, mode
        self.inner = type(layer).from_config(config)
        self.inner.build_from_config(layer.get_build_config() or {})
        self.built = True

    def call(self, inputs, training=None):
        tensor = self.inner_output(inputs, training)
        if self.activation is None:
            return self.mode.then(self.role, tensor)
        tensor = self.mode.then(self.sum_role, tensor)
        if self.activation == "sigmoid":
            return self.mode.then(self.gate_role, tf.sigmoid(tensor))
        if self.activation in ("silu", "swish"):
            # TFLite has no such operation: a sigmoid is stored, and multiplied.
            return self.mode.then(self.role, tensor * self.mode.then(self.gate_role, tf.sigmoid(tensor)))
        return self.mode.then(self.role, keras.activations.get(self.activation)(tensor))

    def inner_output(self, inputs, training):
        if self.activation and isinstance(self.inner, layers.Activation):
            return inputs
        if isinstance(self.inner, KERNELS) and not self.mode.observing:
            rounded = [(self.inner.kernel, _rounded_kernel_of(self.inner))]
            with keras.StatelessScope(state_mapping=rounded):
                return self.inner(inputs)
        if isinstance(self.inner, layers.BatchNormalization):
            return self.inner(inputs, training=False)
        if isinstance(self.inner, layers.Dropout):
            return self.inner(inputs, training=training)
        return self.inner(inputs)


class _SimulatedOperation(keras.Operation):
    """An operation without weights, such as `+`, with a rounded output."""

    def __init__(self, operation: keras.Operation, role: _Role, mode: _Mode):
        super().__init__(name=operation.name)
        self.operation, self.role, self.mode = operation, role, mode

    def call(self, *args, **kwargs):
        return self.mode.then(self.role, self.operation.call(*args, **kwargs))

    def compute_output_spec(self, *args, **kwargs):
        spec = self.operation.compute_output_spec(*args, **kwargs)
        # Keras takes a product with a number for sparse.
        return keras.KerasTensor(spec.shape, spec.dtype)


class _Input(layers.Layer):
    """The features as the int8 graph stores them."""

    def __init__(self, role: _Role, mode: _Mode):
        super().__init__(name="rounded_features", dtype="float32")
        self.role, self.mode = role, mode

    def call(self, inputs):
        return self.mode.then(self.role, inputs)


@dataclass(frozen=True)
class _Call:
    """A node of the student's graph; tensors are known by their identity."""

    operation: Any
    inputs: Sequence[int]
    output: int


def _calls(student: keras.Model) -> list[_Call]:
    """The student's operations in the order in which they are computed."""
    made: list[_Call] = []
    kept: list[Any] = []  # an identity is a tensor's own for as long as it lives

    def call(operation, *args, **kwargs):
        output = operation(*args, **kwargs)
        tensors = [each for each in keras.tree.flatten((args, kwargs)) if isinstance(each, keras.KerasTensor)]
        kept.extend((*tensors, output))
        made.append(_Call(operation, [id(each) for each in tensors], id(output)))
        return output

    keras.models.clone_model(student, clone_function=_copy, call_function=call)
    return made


def _copy(operation):
    # An operation without weights, such as `+`, can serve in several graphs.
    return operation.from_config(operation.get_config()) if isinstance(operation, layers.Layer) else operation


def _is_relu(operation) -> bool:
    if isinstance(operation, layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return plain and operation.max_value in (None, 6)
    return isinstance(operation, layers.Activation) and _activation(operation) in ("relu", "relu6")


def _roles(calls: Sequence[_Call]) -> dict[str, _Role]:
    """What the output of every operation is in TFLite's int8 graph, by the operation's name.

    The rules are the converter's (TensorFlow 2.21), and the tests compare them with its files: an affine
    operation swallows the batch norm, constants and ReLU behind it, a sum or product a ReLU. Pooling and
    what only moves values keep their input's steps. All that a concatenation joins has the steps of its
    result, back to before the pooling, whose larger values are then cut off.
    """
    users: dict[int, list[Any]] = {}
    made_by: dict[int, _Call] = {call.output: call for call in calls}
    for call in calls:
        for tensor in call.inputs:
            users.setdefault(tensor, []).append(call.operation)
    roles: dict[str, _Role] = {}
    within: set[int] = set()  # tensors inside a fused operation
    overwritten: dict[int, Steps | None] = {}

    def of(tensor: int) -> _Role | None:
        return roles[made_by[tensor].operation.name] if tensor in made_by else None

    for call in calls:
        operation, first = call.operation, call.inputs[0]
        is_kernel = isinstance(operation, KERNELS)
        constant = not isinstance(operation, layers.Layer) and len(call.inputs) == 1
        is_affine = isinstance(operation, layers.BatchNormalization) or constant
        next_ones = users.get(call.output, [])
        following = next_ones[0] if len(next_ones) == 1 else None
        before = of(first)
        if isinstance(operation, PASSING):
            steps = before.steps if before else None
            averages = isinstance(operation, layers.AveragePooling2D)
            roles[operation.name] = _Role(steps, observes=False, rounds=averages, averages=averages)
            continue
        open_sum = (is_kernel and _activation(operation) == "linear") or (is_affine and first in within)
        swallowed = following is not None and _is_relu(following)
        if open_sum and following is not None:
            swallowed |= isinstance(following, layers.BatchNormalization)
            swallowed |= not isinstance(following, layers.Layer) and _inputs_of(calls, following) == 1
        merges = len(call.inputs) > 1 and not isinstance(operation, layers.Concatenate)
        if isinstance(operation, layers.Add):
            # The converter's calibration adds in place, and takes what it reads there for the input.
            unshared = [tensor for tensor in call.inputs if len(users[tensor]) == 1]
            free = [role for role in map(of, unshared) if role]
            overwritten[call.output] = free[0].steps if free else None
        if swallowed and (open_sum or merges):
            within.add(call.output)
            roles[operation.name] = _Role(None)
        else:
            joins = isinstance(operation, layers.Concatenate)
            sum_ = call.output if isinstance(operation, layers.Add) else first
            roles[operation.name] = _Role(Steps(), rounds=not joins, overwrites=overwritten.get(sum_))
    for call in calls:
        if isinstance(call.operation, layers.Concatenate):
            _share(call, roles, of)
    return roles


def _inputs_of(calls: Sequence[_Call], operation) -> int:
    return next(len(call.inputs) for call in calls if call.operation is operation)


def _share(call: _Call, roles: dict[str, _Role], of: Callable[[int], _Role | None]) -> None:
    """Give what a concatenation joins, and all that has steps in common with it, the steps of the result."""
    joint = roles[call.operation.name].steps
    old = [role.steps for role in map(of, call.inputs) if role is not None]
    for role in roles.values():
        if any(role.steps is steps for steps in old):
            role.steps, role.observes = joint, False


class Simulation:
    """The int8 twin of a student of features, with the student's weights in the same order.

    Attributes:
        twin: features to logits in training and evaluation; batch norm keeps its statistics. What it rounds
            to are the ranges that `calibrate` found with its weights; they are no weights themselves.
    """

    def __init__(self, student: keras.Model):
        self._mode = _Mode()
        calls = _calls(student)
        self._roles = _roles(calls)
        self._sums: list[_Role] = []
        self._features = _Role(Steps())
        features_input = _Input(self._features, self._mode)

        def call(operation, *args, **kwargs):
            # Only the features come from no operation; they are rounded here.
            args = keras.tree.map_structure(self._entered(features_input), args)
            return operation(*args) if isinstance(operation, _Simulated) else operation(*args, **kwargs)

        self.twin = keras.models.clone_model(student, clone_function=self._simulated, call_function=call)
        self.twin.set_weights(student.get_weights())

    def _entered(self, features_input: _Input) -> Callable[[Any], Any]:
        def entered(tensor):
            if not isinstance(tensor, keras.KerasTensor):
                return tensor
            made_by = tensor._keras_history[0]
            return features_input(tensor) if isinstance(made_by, layers.InputLayer) else tensor

        return entered

    def _simulated(self, operation):
        role = self._roles[operation.name]
        if not isinstance(operation, layers.Layer):
            return _SimulatedOperation(operation, role, self._mode)
        made = _Simulated(operation, role, self._mode)
        self._sums.append(made.sum_role)
        return made

    @property
    def steps(self) -> list[Steps]:
        """The steps of all tensors whose range is observed, from the features on."""
        roles = [self._features, *self._roles.values(), *self._sums]
        by_identity = {id(role.steps): role.steps for role in roles if role.steps is not None}
        return list(by_identity.values())

    def calibrate(self, batches: Iterable[np.ndarray]) -> None:
        """Set the ranges to the extremes that the weights of now, without rounding, give on these features.

        As the converter does: minimum and maximum over all, and zero.
        """
        for steps in self.steps:
            steps.begin()
        self._mode.observing = True
        try:
            for batch in batches:
                # Outside of any graph: graphs are traced with the roundings.
                self.twin(tf.convert_to_tensor(batch), training=False)
        finally:
            self._mode.observing = False
