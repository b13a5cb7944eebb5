"""TFLite's flatbuffers: parts that were converted apart joined to graphs, and pools rewritten in them."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from light_sernet_kd.export import metadata

# The second signature of a file.
ENROLLED = "enrolled"


class ExportError(RuntimeError):
    """The converter made a file that does not do what the student does."""


@dataclass(frozen=True)
class Part:
    """A flatbuffer whose inputs are named after what they take; `gives` names its outputs."""

    name: str
    content: bytes
    gives: tuple[str, ...]


class _AlignedBuffer(schema.BufferT):
    """A constant at a multiple of 16 bytes, as TFLite's schema demands and the Python writer forgets."""

    def Pack(self, builder: Builder) -> int:  # noqa: N802
        # The writer works from the end of the file: it pads here, so that the data will begin aligned.
        builder.Prep(16, len(self.data))
        return super().Pack(builder)


def operator_names(content: bytes) -> list[str]:
    """The operations of a TFLite file's first graph, in order; what is no builtin has its own name."""
    model = schema.ModelT.InitFromPackedBuf(content)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}

    def name(code) -> str:
        # Numbers up to 127 are in the older, 8-bit field.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return code.customCode.decode() if code.customCode else names[number]

    return [name(model.operatorCodes[operator.opcodeIndex]) for operator in model.subgraphs[0].operators]


def is_builtin(operator: str) -> bool:
    """Whether TFLite has an operation of this name.

    >>> is_builtin("CONV_2D"), is_builtin("FlexErf")
    (True, False)
    """
    return hasattr(schema.BuiltinOperator, operator)


def joined(
    parts: Sequence[Part],
    card: Mapping[str, Any],
    enrolled: Part | None = None,
    stages: Sequence[int] = (),
    beside: Sequence[str] = (),
) -> bytes:
    """One flatbuffer from several, linked by names: an input that no part before gives is one of the whole.

    Its output is that of the last part. It holds the TFLite metadata that the card's facts make.

    Args:
        enrolled: makes a second signature, `enrolled`, of a second graph with the same constants. The part
            takes `stage0`, `stage1`, …, tensors of the student. An app that knows nothing of signatures runs
            the first graph.
        stages: channels of each of them; they are those of `training.enrolled.stages`.
        beside: what earlier parts give that is an output of the whole too, behind the last part's.

    Raises:
        ExportError: a part gives a tensor of another shape or type than the next one takes, or the
            student's file has no such stages.
    """
    whole = _Whole(beside)
    for part in parts:
        whole.add(part)
    pools_as_convolutions(whole.model)
    whole.describe(card)
    if enrolled is not None:
        whole.add_enrolled(enrolled, stages)
    builder = Builder(sum(len(part.content) for part in parts) + 2**16)
    builder.Finish(whole.model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


# Kinds of operations that are added → what the schema calls their options.
_OPTIONS = {
    "SLICE": "Slice",
    "CONCATENATION": "Concatenation",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "DEQUANTIZE": "Dequantize",
}


class _Whole:
    """A model that parts are added to."""

    def __init__(self, beside: Sequence[str] = ()) -> None:
        self._beside = beside
        self.graph = schema.SubGraphT(name="main", tensors=[], operators=[], inputs=[])
        self.model = schema.ModelT(
            version=3,
            description="light-sernet-kd",
            operatorCodes=[],
            subgraphs=[self.graph],
            buffers=[schema.BufferT()],  # the first is empty by convention: tensors that are no constants
        )
        self._linked: dict[str, int] = {}  # tensors by the names of inputs and outputs
        self._runtimes: list[str] = []

    def add(self, part: Part) -> None:
        content = schema.ModelT.InitFromPackedBuf(part.content)
        (part_graph,) = content.subgraphs  # a second one would mean a loop or a branch
        names = {index: part_graph.tensors[index].name.decode() for index in part_graph.inputs}
        new_index = {-1: -1}  # -1 stands for an input that is left out, such as a bias
        for index, name in names.items():
            if name in self._linked:
                self._check_link(part, name, part_graph.tensors[index])
                new_index[index] = self._linked[name]
        self._take_tensors(part, content, new_index)
        for operator in part_graph.operators:
            operator.opcodeIndex += len(self.model.operatorCodes)
            operator.inputs = [new_index[index] for index in operator.inputs]
            operator.outputs = [new_index[index] for index in operator.outputs]
        self.graph.operators += part_graph.operators
        self.model.operatorCodes += content.operatorCodes
        self._runtimes += [
            bytes(content.buffers[entry.buffer].data).rstrip(b"\0").decode()
            for entry in content.metadata or ()
            if entry.name.decode() == metadata.RUNTIME_ENTRY
        ]
        self.graph.inputs += [new_index[index] for index, name in names.items() if name not in self._linked]
        self._linked |= {name: new_index[index] for index, name in names.items()}
        outputs = [new_index[index] for index in part_graph.outputs]
        self._linked |= dict(zip(part.gives, outputs, strict=True))
        self.graph.outputs = [*outputs, *self._kept_beside(outputs)]

    def _kept_beside(self, outputs: Sequence[int]) -> list[int]:
        kept = [self._linked[name] for name in self._beside if name in self._linked]
        return [index for index in kept if index not in outputs]

    def _check_link(self, part: Part, name: str, taken: schema.TensorT) -> None:
        linked_tensor = self.graph.tensors[self._linked[name]]
        if [*linked_tensor.shape] != [*taken.shape] or linked_tensor.type != taken.type:
            raise ExportError(
                f"the {part.name} takes {name} {[*taken.shape]} where {[*linked_tensor.shape]} is given"
            )

    def _take_tensors(self, part: Part, content: schema.ModelT, new_index: dict[int, int]) -> None:
        """Add the part's tensors and constants but for those that `new_index` has, which it completes."""
        new_buffer: dict[int, int] = {}
        for index, tensor in enumerate(content.subgraphs[0].tensors):
            if index in new_index:
                continue
            data = content.buffers[tensor.buffer].data
            if data is None or not len(data):
                tensor.buffer = 0
            else:
                if tensor.buffer not in new_buffer:
                    new_buffer[tensor.buffer] = len(self.model.buffers)
                    self.model.buffers.append(_AlignedBuffer(data))
                tensor.buffer = new_buffer[tensor.buffer]
            tensor.name = f"{part.name}/{tensor.name.decode()}"
            new_index[index] = len(self.graph.tensors)
            self.graph.tensors.append(tensor)

    def describe(self, card: Mapping[str, Any]) -> None:
        """Name the inputs and the outputs, and add the signature and the metadata."""
        graph = self.graph
        self.model.signatureDefs = [self._signature("serving_default")]
        entries = {metadata.ENTRY: metadata.packed(card, self._names(graph.inputs))}
        if self._runtimes:
            # What runs every part runs the whole.
            newest = max(self._runtimes, key=lambda version: [int(number) for number in version.split(".")])
            entries[metadata.RUNTIME_ENTRY] = newest.encode().ljust(16, b"\0")
        self.model.metadata = []
        for name, content in entries.items():
            self.model.metadata.append(schema.MetadataT(name=name, buffer=len(self.model.buffers)))
            self.model.buffers.append(_AlignedBuffer(np.frombuffer(content, np.uint8)))

    def add_enrolled(self, part: Part, stages: Sequence[int]) -> None:
        """A second graph and its signature, which share the constants of the first; see `joined`."""
        graph = copy.deepcopy(self.graph)
        graph.name = ENROLLED
        taken = _stages_of(self.model, graph, self._linked["logits"], stages)
        kept_names = [*self._names(graph.inputs), *self._beside]
        stage_names = {f"stage{number}": index for number, index in enumerate(taken)}
        self.graph = graph
        self._linked = {**{name: self._linked[name] for name in kept_names}, **stage_names}
        self.model.subgraphs.append(graph)
        self.add(part)
        kept = _drop_unused(graph)
        self._linked = {name: kept[index] for name, index in self._linked.items() if index in kept}
        self.model.signatureDefs.append(self._signature(ENROLLED))

    def _names(self, indices: Sequence[int]) -> list[str]:
        names = {index: name for name, index in self._linked.items()}
        return [names[index] for index in indices]

    def _signature(self, key: str) -> schema.SignatureDefT:
        """Of the graph's inputs and outputs, which are named as they are linked."""
        graph = self.graph

        def named(indices: Sequence[int]) -> list[schema.TensorMapT]:
            pairs = list(zip(self._names(indices), indices, strict=True))
            for name, index in pairs:
                graph.tensors[index].name = name
            return [schema.TensorMapT(name=name, tensorIndex=index) for name, index in pairs]

        return schema.SignatureDefT(
            signatureKey=key,
            inputs=named(graph.inputs),
            outputs=named(graph.outputs),
            subgraphIndex=self.model.subgraphs.index(graph),
        )


def _stages_of(
    model: schema.ModelT, graph: schema.SubGraphT, logits: int, widths: Sequence[int]
) -> list[int]:
    """The tensors that `training.enrolled.stages` names, as float32.

    Args:
        widths: channels of each stage.
    """
    makers = {index: operator for operator in graph.operators for index in operator.outputs}
    layer = makers[logits]
    is_int8 = _is(model, layer, "DEQUANTIZE")
    if is_int8:
        layer = makers[layer.inputs[0]]
    if not _is(model, layer, "FULLY_CONNECTED"):
        raise ExportError("the student's logits come from no fully connected layer")
    embedding = layer.inputs[0]
    stages = [embedding] if len(widths) == 1 else _stages(model, makers, embedding, len(widths))
    if [int(graph.tensors[index].shape[-1]) for index in stages] != [*widths]:
        raise ExportError(f"stages of {[*widths]} channels are not found in the student's file")
    edit = _Edit(model, graph)
    return [edit.dequantised(index) for index in stages] if is_int8 else stages


def _stages(
    model: schema.ModelT, makers: Mapping[int, schema.OperatorT], embedding: int, count: int
) -> list[int]:
    """What the last `count` convolutions before the embedding take, in the order of the graph."""
    stages: list[int] = []
    operator = makers.get(embedding)
    while operator is not None and len(stages) < count:
        taken = operator.inputs[0]
        if _is(model, operator, "CONV_2D"):
            stages.append(taken)
        operator = makers.get(taken)
    return stages[::-1]


def _is(model: schema.ModelT, operator: schema.OperatorT, name: str) -> bool:
    code = model.operatorCodes[operator.opcodeIndex]
    # Numbers up to 127 are in the older, 8-bit field.
    return max(code.builtinCode, code.deprecatedBuiltinCode) == getattr(schema.BuiltinOperator, name)


def _drop_unused(graph: schema.SubGraphT) -> dict[int, int]:
    """Leave out what the outputs do not need; returns where each tensor that stays is now."""
    used = {*graph.inputs, *graph.outputs}
    operators = []
    for operator in reversed(graph.operators):
        if used & {*operator.outputs}:
            used |= {*operator.inputs, *operator.outputs}
            operators.append(operator)
    graph.operators = operators[::-1]
    new_index = {index: number for number, index in enumerate(sorted(used - {-1}))}
    graph.tensors = [graph.tensors[index] for index in new_index]
    for number, tensor in enumerate(graph.tensors):
        tensor.name = f"{graph.name}/{number}"  # the converter's are long
    with_none = {-1: -1, **new_index}
    for operator in graph.operators:
        operator.inputs = [with_none[index] for index in operator.inputs]
        operator.outputs = [with_none[index] for index in operator.outputs]
    graph.inputs = [new_index[index] for index in graph.inputs]
    graph.outputs = [new_index[index] for index in graph.outputs]
    return new_index


class _Edit:
    """Operations and tensors that are added to a graph of a model."""

    def __init__(self, model: schema.ModelT, graph: schema.SubGraphT):
        self.model, self.graph = model, graph
        self.operators: list[schema.OperatorT] = graph.operators

    def add(self, kind: str, version: int, inputs: Sequence[int], output: int) -> Any:
        """Add an operation; returns its options, the schema's defaults, for the caller to set."""
        number = getattr(schema.BuiltinOperator, kind)
        code = schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=number, version=version)
        self.model.operatorCodes.append(code)
        name = f"{_OPTIONS[kind]}Options"
        operator = schema.OperatorT(
            opcodeIndex=len(self.model.operatorCodes) - 1,
            inputs=inputs,
            outputs=[output],
            builtinOptionsType=getattr(schema.BuiltinOptions, name),
            builtinOptions=getattr(schema, f"{name}T")(),
        )
        self.operators.append(operator)
        return operator.builtinOptions

    def tensor(self, name: str, shape, kind: int, data: np.ndarray | None = None, quantization=None) -> int:
        buffer = 0
        if data is not None:
            buffer = len(self.model.buffers)
            self.model.buffers.append(_AlignedBuffer(np.frombuffer(data.tobytes(), np.uint8)))
        self.graph.tensors.append(
            schema.TensorT(shape=[*shape], type=kind, buffer=buffer, name=name, quantization=quantization)
        )
        return len(self.graph.tensors) - 1

    def constant(self, name: str, data: np.ndarray, scale: float | None = None) -> int:
        kind = schema.TensorType.INT8 if data.dtype == np.int8 else schema.TensorType.INT32
        steps = None if scale is None else schema.QuantizationParametersT(scale=[scale], zeroPoint=[0])
        return self.tensor(name, data.shape, kind, data, steps)

    def dequantised(self, taken: int) -> int:
        """The tensor as float32."""
        source = self.graph.tensors[taken]
        name = f"{ENROLLED}/floats{len(self.operators)}"
        output = self.tensor(name, source.shape, schema.TensorType.FLOAT32)
        self.add("DEQUANTIZE", 2, [taken], output)
        return output


def pools_as_convolutions(model: schema.ModelT) -> None:
    """Write int8 average pools as depthwise convolutions, which give the same means.

    XNNPACK takes average pools of floats alone: each int8 one ended a delegated part of the graph, and was
    itself slow. Light-SERNet's network takes 0.63 of the time so, and is nearer to Keras'.
    """
    _Pools(model).rewrite()


class _Pools(_Edit):
    """The average pools of a model's first graph, rewritten one after the other."""

    def __init__(self, model: schema.ModelT):
        super().__init__(model, model.subgraphs[0])
        self.operators = []

    def rewrite(self) -> None:
        for operator in self.graph.operators:
            if self._can_be_convolution(operator):
                self._convolve(operator)
            else:
                self.operators.append(operator)
        self.graph.operators = self.operators

    def _can_be_convolution(self, operator: schema.OperatorT) -> bool:
        code, source = self.model.operatorCodes[operator.opcodeIndex], self.graph.tensors[operator.inputs[0]]
        average = code.deprecatedBuiltinCode == schema.BuiltinOperator.AVERAGE_POOL_2D
        if not average or source.type != schema.TensorType.INT8:
            return False
        pool = operator.builtinOptions
        size = (pool.filterHeight, pool.filterWidth)
        if size != (pool.strideH, pool.strideW):
            return False
        # Of wider pools the mean at the edge is of more than one row that is there.
        same = pool.padding == schema.Padding.SAME
        return not same or (max(_lacking(source, size)) <= 1 and max(size) <= 2)

    def _convolve(self, operator: schema.OperatorT) -> None:
        pool, output = operator.builtinOptions, operator.outputs[0]
        source, name = self.graph.tensors[operator.inputs[0]], self.graph.tensors[output].name
        size = (pool.filterHeight, pool.filterWidth)
        taken = operator.inputs[0]
        if pool.padding == schema.Padding.SAME:
            taken = self._with_edges(taken, _lacking(source, size), name)
        # A power of two: products are then exact, and half a step goes to the even one, not to one side.
        channels, scale = int(source.shape[3]), 1.0 / (64 * size[0] * size[1])
        weights = self.constant(f"{name}/weights", np.full((1, *size, channels), 64, np.int8), scale)
        bias_scale = float(source.quantization.scale[0]) * scale
        bias = self.constant(f"{name}/bias", np.zeros(channels, np.int32), bias_scale)
        options = self.add("DEPTHWISE_CONV_2D", 3, [taken, weights, bias], output)
        options.padding = schema.Padding.VALID
        options.strideH, options.strideW, options.depthMultiplier = *size, 1
        options.fusedActivationFunction = pool.fusedActivationFunction

    def _with_edges(self, taken: int, lacking: Sequence[int], name: str) -> int:
        """The tensor with its last row and column twice, where they are lacking.

        The pool's mean at the edge is that of the row itself: so is the mean of the row and its copy.
        """
        source = self.graph.tensors[taken]
        for axis in (axis for axis, missing in enumerate(lacking, start=1) if missing):
            shape = [int(length) for length in self.graph.tensors[taken].shape]
            first = np.where(np.arange(4) == axis, shape[axis] - 1, 0).astype(np.int32)
            edge_shape = np.where(np.arange(4) == axis, 1, shape).astype(np.int32)
            edge = self.tensor(f"{name}/edge{axis}", edge_shape, source.type, None, source.quantization)
            bounds = [
                self.constant(f"{name}/from{axis}", first),
                self.constant(f"{name}/size{axis}", edge_shape),
            ]
            self.add("SLICE", 2, [taken, *bounds], edge)
            shape[axis] += 1
            longer = self.tensor(f"{name}/longer{axis}", shape, source.type, None, source.quantization)
            self.add("CONCATENATION", 2, [taken, edge], longer).axis = axis
            taken = longer
        return taken


def _lacking(source: schema.TensorT, size: Sequence[int]) -> list[int]:
    """How many rows and columns are missing to a multiple of the pool's size."""
    return [-length % wide for length, wide in zip(source.shape[1:3], size, strict=True)]
