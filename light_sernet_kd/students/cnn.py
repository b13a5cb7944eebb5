"""The image networks of Cubic KD (2023), from random weights: one input channel, 128 features, the logits.

Cubic KD asks timm for a network of 128 outputs and puts a linear layer on it, nothing between the two. Here
too `embedding`, 128 wide, is linear, and nothing is dropped at random: timm's rates are 0 unless given.
Against timm, the padding of strided layers is Keras' (more at the end) and batch norm has Keras' epsilon of
1e-3, neither of which has weights.
"""

from collections.abc import Callable, Sequence

import keras
from keras import layers
from keras.applications import EfficientNetB0, MobileNetV3Small

from light_sernet_kd.errors import UserError

EMBEDDING = 128
# All of these halve time and frequency five times.
SMALLEST = 32

# ResNet18 (He et al. 2015, arXiv:1512.03385, table 1): filters and the first stride of two blocks each.
RESNET18: Sequence[tuple[int, int]] = ((64, 1), (128, 2), (256, 2), (512, 2))


def mobilenetv3_small_075(
    input_shape: tuple[int, int, int], classes: int, *, width: float = 1.0
) -> keras.Model:
    """MobileNetV3-Small at 0.75 of its width (Howard et al. 2019, arXiv:1905.02244): features to logits.

    1,158,367 parameters with batch-norm statistics for 7 classes, 1,157,980 for 4, at width 1.

    >>> mobilenetv3_small_075((157, 40, 1), 7).count_params()
    1158367
    """
    return _mobilenet("mobilenetv3_small_075", input_shape, classes, 0.75 * width)


def mobilenetv3_small_100(
    input_shape: tuple[int, int, int], classes: int, *, width: float = 1.0
) -> keras.Model:
    """MobileNetV3-Small (Howard et al. 2019, arXiv:1905.02244): features to logits.

    1,661,783 parameters with batch-norm statistics for 7 classes, 1,661,396 for 4, at width 1.

    >>> mobilenetv3_small_100((157, 40, 1), 7).count_params()
    1661783
    """
    return _mobilenet("mobilenetv3_small_100", input_shape, classes, width)


def efficientnet_b0(input_shape: tuple[int, int, int], classes: int, *, width: float = 1.0) -> keras.Model:
    """EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946): features to logits.

    4,213,859 parameters with batch-norm statistics for 7 classes, 4,213,472 for 4, at width 1. Another width
    scales every layer's channels, those within a block too.

    >>> efficientnet_b0((157, 40, 1), 7).count_params()
    4213859
    """

    def body(features):
        network = EfficientNetB0(include_top=False, weights=None, input_tensor=features)
        return layers.GlobalAveragePooling2D()(network.output)

    return _network("efficientnet_b0", body, input_shape, classes, rescaled=width)


def resnet18(input_shape: tuple[int, int, int], classes: int, *, width: float = 1.0) -> keras.Model:
    """ResNet18 (He et al. 2015, arXiv:1512.03385): features to logits.

    11,246,407 parameters with batch-norm statistics for 7 classes, 11,246,020 for 4, at width 1.

    >>> resnet18((157, 40, 1), 7).count_params()
    11246407
    """

    def convolution(tensor, filters, kernel, stride):
        tensor = layers.Conv2D(
            filters,
            kernel,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out"),
        )(tensor)
        return layers.BatchNormalization()(tensor)

    def block(tensor, filters, stride):
        shortcut = tensor
        if stride > 1 or tensor.shape[-1] != filters:
            shortcut = convolution(tensor, filters, 1, stride)
        tensor = layers.ReLU()(convolution(tensor, filters, 3, stride))
        return layers.ReLU()(layers.Add()([convolution(tensor, filters, 3, 1), shortcut]))

    def body(tensor):
        tensor = layers.ReLU()(convolution(tensor, _channels(RESNET18[0][0] * width), 7, 2))
        tensor = layers.MaxPooling2D(3, 2, padding="same")(tensor)
        for filters, stride in RESNET18:
            tensor = block(tensor, _channels(filters * width), stride)
            tensor = block(tensor, _channels(filters * width), 1)
        return layers.GlobalAveragePooling2D()(tensor)

    return _network("resnet18", body, input_shape, classes)


def _mobilenet(name: str, input_shape: tuple[int, int, int], classes: int, alpha: float) -> keras.Model:
    def body(features):
        network = MobileNetV3Small(
            alpha=alpha,
            include_top=False,
            weights=None,
            input_tensor=features,
            include_preprocessing=False,
            pooling="avg",
        )
        # The paper's head, which Keras has for images only. It is thinned no further than 1024.
        return layers.Dense(_channels(1024 * max(1.0, alpha)), "hard_swish", name="head")(network.output)

    return _network(name, body, input_shape, classes)


def _channels(count: float) -> int:
    """The nearest multiple of 8, as these networks have them."""
    return max(8, round(count / 8) * 8)


def _network(
    name: str,
    body: Callable,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    rescaled: float = 1.0,
) -> keras.Model:
    """`body` with a head, without what Keras added for images; `rescaled` times as many channels."""
    frames, coefficients, _ = input_shape
    if min(frames, coefficients) < SMALLEST:
        raise UserError(
            f"{name} needs at least {SMALLEST} frames of {SMALLEST} features, "
            f"found {frames} of {coefficients}: lengthen the clips (-id) or take a light_sernet."
        )

    def rebuilt(layer):
        if not isinstance(layer, layers.Layer):
            return layer  # an operation without weights, such as `+`
        config = layer.get_config()
        if isinstance(layer, layers.BatchNormalization):
            # Keras' MobileNet has 0.999, with which evaluation follows training after thousands of steps.
            config["momentum"] = layers.BatchNormalization().momentum
        if rescaled != 1.0 and type(layer) is layers.Conv2D:
            config["filters"] = _channels(rescaled * layer.filters)
        if rescaled != 1.0 and isinstance(layer, layers.Reshape):
            *ones, count = layer.target_shape
            config["target_shape"] = (*ones, _channels(rescaled * count))
        return type(layer).from_config(config)

    def call(layer, tensor, *args, **kwargs):
        # Features are no pixels, and to drop whole images from a residual branch is not in timm's default.
        if isinstance(layer, layers.Rescaling | layers.Normalization | layers.Dropout):
            return tensor
        return layer(tensor, *args, **kwargs)

    features = keras.Input(input_shape, name="features")
    embedding = layers.Dense(EMBEDDING, name="embedding")(body(features))
    logits = layers.Dense(classes, name="logits", dtype="float32")(embedding)
    network = keras.Model(features, logits, name=name)
    return keras.models.clone_model(network, clone_function=rebuilt, call_function=call)
