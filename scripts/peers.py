"""Other engines that run what a Graph describes, as `backline.bench` runs its own.

Both stream: a block goes in, and what each convolution remembers of the past, or a recurrent layer's state,
goes in and comes out as tensors beside it. That is the fairer way for them: over a window of the whole
receptive field they would compute each frame a hundred times over.
"""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from backline.bench import DEFAULT_RATE_HZ, Times, Work
from backline.graph import Graph
from backline.layers import Activate, Add, Affine, Conv1d, Lstm, Multiply, Node

SLICE_S = 0.03
#: A slow peer is not kept for longer by the timing of single blocks, per repeat.
BLOCKS_S = 0.5
_OPSET = 17


class PeerRun:
    """Common to all: a block of seeded noise over and over, one call from Python for each."""

    engine = ""

    def __init__(self, work: Work, isa: str, block_frames: int) -> None:
        self.work = work
        self.isa = isa
        self.block_frames = block_frames
        self.sample_rate_hz = work.graph.sample_rate_hz or DEFAULT_RATE_HZ
        shape = (1, work.graph.input_channels, block_frames)
        self.x = (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
        self.prepare()
        self._blocks = 1
        for _ in range(3):  # whatever is compiled on first use
            self.step()
        self._block_s = self._thread_s(1)
        self._blocks = max(1, round(SLICE_S / self._block_s))

    def prepare(self) -> None:
        """Make ready to run `step`."""
        raise NotImplementedError

    def step(self) -> None:
        """Run one block."""
        raise NotImplementedError

    def load(self, x: np.ndarray) -> None:
        """Let `step` read this [1][channels][frames]."""
        self.x[:] = x

    def answer(self) -> np.ndarray:
        """What the last `step` gave, [channels][frames]."""
        raise NotImplementedError

    def _thread_s(self, blocks: int) -> float:
        start = time.thread_time()
        for _ in range(blocks):
            self.step()
        return max(time.thread_time() - start, 1e-9)

    def slice(self) -> tuple[float, float]:
        """As `backline.bench.Run`."""
        start = time.perf_counter()
        spent = self._thread_s(self._blocks)
        return self._blocks * self.block_frames / spent, spent / (time.perf_counter() - start)

    def block_times_ns(self, blocks: int) -> Times:
        """As `backline.bench.Run`, but no more blocks than half a second holds."""
        times = np.zeros(min(blocks, max(1, math.ceil(BLOCKS_S / self._block_s))), np.uint32)
        for index in range(times.size):
            start = time.perf_counter_ns()
            self.step()
            times[index] = min(time.perf_counter_ns() - start, 2**32 - 1)
        return times


class StreamingModule(torch.nn.Module):
    """A graph in PyTorch: takes a block and all states, returns what comes out and the next states."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph
        self.layers = torch.nn.ModuleList([_layer(node, graph) for node in graph.nodes])
        self.first_states = [
            torch.from_numpy(state) for node in graph.nodes for state in first_states(node, graph)
        ]

    def forward(self, x: torch.Tensor, *states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        signals, waiting, following = {self._graph.input: x}, list(states), []
        for node, layer in zip(self._graph.nodes, self.layers, strict=True):
            below = signals[node.inputs[0]]
            if isinstance(node, Lstm):
                y, (h, c) = layer(below.transpose(1, 2), (waiting.pop(0), waiting.pop(0)))
                below = y.transpose(1, 2)
                following += [h, c]
            elif isinstance(node, Conv1d):
                if node.lookback_frames:
                    below = torch.cat([waiting.pop(0), below], dim=2)
                    following.append(below[:, :, -node.lookback_frames :])
                below = layer(below)
            elif isinstance(node, Add):
                below = below + signals[node.b]
            elif isinstance(node, Multiply):
                below = below * signals[node.b]
            else:
                below = layer(below)
            signals[node.output] = below
        return (signals[self._graph.output], *following)


class _Affine(torch.nn.Module):
    def __init__(self, node: Affine) -> None:
        super().__init__()
        shift = np.zeros_like(node.scale) if node.shift is None else node.shift
        self.register_buffer("scale", torch.tensor(node.scale)[None, :, None])
        self.register_buffer("shift", torch.tensor(shift)[None, :, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.shift


def _layer(node: Node, graph: Graph) -> torch.nn.Module:
    if isinstance(node, Conv1d):
        check_plain(node)
        out_channels, _, kernel = node.weight.shape
        conv = torch.nn.Conv1d(
            *(graph.signals[node.input].channels, out_channels, kernel),
            **{"groups": node.groups, "dilation": node.dilation, "bias": node.bias is not None},
        )
        conv.weight.data = torch.tensor(node.weight)
        if node.bias is not None:
            conv.bias.data = torch.tensor(node.bias)
        return conv
    if isinstance(node, Lstm):
        lstm = torch.nn.LSTM(node.weight_ih.shape[1], node.hidden, batch_first=True)
        lstm.weight_ih_l0.data = torch.tensor(np.ascontiguousarray(node.weight_ih))
        lstm.weight_hh_l0.data = torch.tensor(np.ascontiguousarray(node.weight_hh))
        lstm.bias_ih_l0.data = torch.tensor(node.bias)
        lstm.bias_hh_l0.data = torch.zeros(4 * node.hidden)
        return lstm
    if isinstance(node, Activate):
        return activation(node)
    if isinstance(node, Affine):
        return _Affine(node)
    if isinstance(node, Add | Multiply):
        return torch.nn.Identity()
    raise NotImplementedError(f"{node.output}: {type(node).__name__} is not known to bench_peers")


def check_plain(node: Conv1d) -> None:
    """Formats write plain convolutions; what passes make of them is not known here."""
    if node.stride != 1 or node.mix or node.activation or node.residual or node.skip:
        raise NotImplementedError(f"{node.output}: only plain convolutions are known to bench_peers")


def activation(node: Activate) -> torch.nn.Module:
    """PyTorch's own of the few kinds that are measured."""
    kind, parameters = node.activation.kind, node.activation.parameters
    if kind == "leaky_relu":
        return torch.nn.LeakyReLU(*parameters)
    plain = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}
    if kind not in plain:
        raise NotImplementedError(f"{node.output}: {kind} is not known to bench_peers")
    return plain[kind]()


def first_states(node: Node, graph: Graph) -> list[np.ndarray]:
    """What a node remembers before the first frame."""
    if isinstance(node, Lstm):
        zeros = np.zeros(node.hidden, np.float32)
        firsts = (zeros if state is None else state for state in (node.h0, node.c0))
        return [np.array(state, np.float32).reshape(1, 1, -1) for state in firsts]
    if isinstance(node, Conv1d) and node.lookback_frames:
        return [np.zeros((1, graph.signals[node.input].channels, node.lookback_frames), np.float32)]
    return []


class TorchScriptRun(PeerRun):
    """TorchScript: traced at this size of block, frozen, without gradients."""

    engine = "torchscript, streaming"

    def prepare(self) -> None:
        self._module = StreamingModule(self.work.graph).eval()
        self._states = tuple(self._module.first_states)
        self._input = torch.from_numpy(self.x)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is going out of use, which is known
            traced = torch.jit.trace(self._module, (self._input, *self._states), check_trace=False)
            self._script = torch.jit.freeze(traced)

    def step(self) -> None:
        with torch.inference_mode():
            self._y, *self._states = self._script(self._input, *self._states)

    def answer(self) -> np.ndarray:
        return self._y.numpy()[0]


class OnnxRun(PeerRun):
    """ONNX Runtime: one thread, all optimisations; states go back and forth between two sets of buffers."""

    engine = "onnxruntime, streaming"

    def prepare(self) -> None:
        model, states = onnx_model(self.work.graph, self.block_frames)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        make = onnxruntime.OrtValue.ortvalue_from_numpy
        self._x = make(self.x)
        sets = [[make(state.copy()) for state in states] for _ in range(2)]
        self._y = make(np.zeros((1, self.work.graph.output_channels, self.block_frames), np.float32))
        self._bindings = [self._binding(sets[i], sets[1 - i]) for i in range(2)]

    def _binding(self, given: list[Any], made: list[Any]) -> Any:
        binding = self._session.io_binding()
        binding.bind_ortvalue_input("x", self._x)
        binding.bind_ortvalue_output("y", self._y)
        for index, (before, after) in enumerate(zip(given, made, strict=True)):
            binding.bind_ortvalue_input(f"state_{index}", before)
            binding.bind_ortvalue_output(f"next_{index}", after)
        return binding

    def step(self) -> None:
        self._session.run_with_iobinding(self._bindings[0])
        self._bindings.reverse()

    def load(self, x: np.ndarray) -> None:
        self._x.update_inplace(x)

    def answer(self) -> np.ndarray:
        return self._y.numpy()[0]


class _OnnxGraph:
    """Nodes and numbers of a graph on its way to ONNX."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.numbers: list[Any] = []
        self.states: list[np.ndarray] = []
        self.following: list[str] = []

    def add(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))

    def number(self, name: str, values: Any) -> str:
        self.numbers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def state(self, first: np.ndarray) -> tuple[str, str]:
        self.states.append(first)
        self.following.append(f"next_{len(self.states) - 1}")
        return f"state_{len(self.states) - 1}", self.following[-1]


def onnx_model(graph: Graph, block_frames: int) -> tuple[Any, list[np.ndarray]]:
    """A graph as an ONNX model with states, at one size of block; and the first states."""
    made = _OnnxGraph()
    names = {graph.input: "x"} | {node.output: f"s{i}" for i, node in enumerate(graph.nodes)}
    names[graph.output] = "y"
    for i, node in enumerate(graph.nodes):
        inputs, output = [names[name] for name in node.inputs], names[node.output]
        if isinstance(node, Conv1d):
            _add_conv(made, node, graph, inputs[0], output)
        elif isinstance(node, Lstm):
            _add_lstm(made, node, graph, inputs[0], output)
        elif isinstance(node, Activate):
            activation(node)
            kind, parameters = node.activation.kind, node.activation.parameters
            words = {"leaky_relu": "LeakyRelu", "tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid"}
            made.add(words[kind], inputs, [output], **({"alpha": parameters[0]} if parameters else {}))
        elif isinstance(node, Affine):
            scale = made.number(f"scale {i}", node.scale[None, :, None])
            scaled = output if node.shift is None else f"{output} scaled"
            made.add("Mul", [inputs[0], scale], [scaled])
            if node.shift is not None:
                made.add("Add", [scaled, made.number(f"shift {i}", node.shift[None, :, None])], [output])
        else:
            made.add({Add: "Add", Multiply: "Mul"}[type(node)], inputs, [output])
    taken = [_value("x", (1, graph.input_channels, block_frames))]
    given = [_value("y", (1, graph.output_channels, block_frames))]
    taken += [_value(f"state_{i}", state.shape) for i, state in enumerate(made.states)]
    given += [_value(name, state.shape) for name, state in zip(made.following, made.states, strict=True)]
    body = helper.make_graph(made.nodes, "streaming", taken, given, made.numbers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model, made.states


def _value(name: str, shape: tuple[int, ...]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _add_conv(made: _OnnxGraph, node: Conv1d, graph: Graph, x: str, y: str) -> None:
    check_plain(node)
    source = x
    if node.lookback_frames:
        before, after = made.state(first_states(node, graph)[0])
        source = f"{y} heard"
        made.add("Concat", [before, x], [source], axis=2)
        start = made.number(f"{y} start", np.array([-node.lookback_frames], np.int64))
        end = made.number(f"{y} end", np.array([2**31 - 1], np.int64))
        axis = made.number(f"{y} axis", np.array([2], np.int64))
        made.add("Slice", [source, start, end, axis], [after])
    numbers = [made.number(f"{y} weight", node.weight)]
    if node.bias is not None:
        numbers.append(made.number(f"{y} bias", node.bias))
    made.add("Conv", [source, *numbers], [y], dilations=[node.dilation], group=node.groups)


def _add_lstm(made: _OnnxGraph, node: Lstm, graph: Graph, x: str, y: str) -> None:
    """[1][channels][frames] to [frames][1][channels] and back; ONNX has the gates as i, o, f, c."""
    states = [made.state(first) for first in first_states(node, graph)]
    i, f, g, o = (np.arange(node.hidden) + gate * node.hidden for gate in range(4))
    order = np.concatenate([i, o, f, g])
    bias = np.concatenate([node.bias[order], np.zeros_like(node.bias)])
    numbers = [
        made.number(f"{y} ih", node.weight_ih[order][None]),
        made.number(f"{y} hh", node.weight_hh[order][None]),
        made.number(f"{y} bias", bias[None]),
    ]
    made.add("Transpose", [x], [f"{y} turned"], perm=[2, 0, 1])
    given = [f"{y} turned", *numbers, "", states[0][0], states[1][0]]
    made.add("LSTM", given, [f"{y} out", states[0][1], states[1][1]], hidden_size=node.hidden)
    made.add("Squeeze", [f"{y} out", made.number(f"{y} axis", np.array([1], np.int64))], [f"{y} flat"])
    made.add("Transpose", [f"{y} flat"], [y], perm=[1, 2, 0])
