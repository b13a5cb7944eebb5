"""What a file's graph holds and does: operations, weights, multiply-adds, and what XNNPACK takes."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

MULTIPLY_ADDS = (
    "multiply-adds of convolutions, fully connected layers and matrix products, from the shapes in the file; "
    "not of Fourier transforms, pools and what works on single values. An int8 file's average pools are "
    "depthwise convolutions, and are counted"
)


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
    from ai_edge_litert import schema_py_generated as schema

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


def _shape(tensor: "schema.TensorT") -> tuple[int, ...]:
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
