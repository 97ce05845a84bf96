"""A PyTorch ``state_dict`` written to JSON, as RTNeural's torch_helpers read it: tensors as nested lists.

The tensors alone say nothing of groups, stride or dilation, nor of the order of layers, so the caller has to.
Tensors are in PyTorch's own layouts (`torch.nn.Conv1d`, `ConvTranspose1d`, `Linear`, `GRU`, `LSTM`,
`BatchNorm1d`, `PReLU`). A strided layer answers at input frames 0, stride, 2 stride and so on; RTNeural
repeats each answer until the next, which ``hold`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..activations import ACTIVATIONS, Activation
from ..errors import ModelError
from ..graph import Graph
from ..layers import (
    Activate,
    Add,
    Array,
    BatchNorm,
    Concat,
    Conv1d,
    ConvTranspose1d,
    Gru,
    Lstm,
    Multiply,
    Node,
    Upsample,
    check_groups,
)
from ._reading import Fields, as_array, as_list, as_number, refuse, within

#: Reads another file of the same folder.
Sibling = Callable[[str], Mapping[str, Any]]

_EXAMPLE = (
    "{'type': 'conv1d', 'prefix': '', 'in_channels': 1, 'out_channels': 8, 'kernel_size': 3, "
    "'dilation': 1, 'stride': 1, 'groups': 1, 'bias': True}"
)
_MOST_LAYERS = 10_000
#: Numbers of a batch normalisation that stand among its tensors.
_NO_TENSORS = ("num_batches_tracked", "eps")
#: What every layer may say, and what each kind may say besides.
_COMMON = {"type", "name", "input", "prefix", "file"}
_CONV = {"in_channels", "out_channels", "kernel_size", "dilation", "stride", "groups", "bias"}
_KNOWN = {
    "conv1d": _CONV | {"hold"},
    "conv_transpose1d": _CONV,
    "linear": {"in_features", "out_features", "bias"},
    "gru": {"input_size", "hidden_size", "num_layers"},
    "lstm": {"input_size", "hidden_size", "num_layers"},
    "batchnorm": {"channels", "eps"},
    "prelu": {"channels"},
    "activation": {"kind", "parameters"},
    "add": {"inputs"},
    "multiply": {"inputs"},
    "concat": {"inputs"},
}


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a state_dict: values are tensors, one of them a weight."""
    tensors = all(isinstance(value, list | int | float) for value in document.values())
    names = ("weight", "weight_ih_l0")
    return tensors and any(key in names or key.endswith(tuple(f".{n}" for n in names)) for key in document)


def read(
    document: Mapping[str, Any],
    *,
    layers: Sequence[Mapping[str, Any]] | None,
    file_name: str = "",
    sibling: Sibling | None = None,
) -> Graph:
    """Turn a state_dict and a list of its layers into a graph.

    Parameters
    ----------
    document : mapping
        The whole file, parsed.
    layers : sequence of mappings
        One per layer, in running order. ``type`` is one of

        - ``conv1d`` and ``conv_transpose1d``: ``in_channels``, ``out_channels``, ``kernel_size``, and where
          they differ from PyTorch's defaults ``dilation`` (1), ``stride`` (1), ``groups`` (1), ``bias``
          (true); conv1d also ``hold`` (false): repeat each answer of a strided layer until the next;
        - ``linear``: ``in_features``, ``out_features``, ``bias`` (true);
        - ``gru``, ``lstm``: ``input_size``, ``hidden_size``, ``num_layers`` (1);
        - ``batchnorm``: ``channels``, ``eps`` (the file's own, else 1e-5); ``prelu``: ``channels``;
        - ``activation``: ``kind``, a name Backline knows, and its ``parameters``;
        - ``add``, ``multiply``, ``concat``: ``inputs``, names of earlier layers.

        Each reads the layer before it, or the one named by ``input`` ("input" is the model's); ``name`` names
        it. Its tensors are called ``prefix`` (empty) and PyTorch's name, in ``file``, beside the model's, or
        in the model's own file.
    file_name : str
        Name of the model's own file.
    sibling : callable, optional
        Reads another file of the model's folder by its name.

    Returns
    -------
    Graph
        Starts from zeros (no prewarm).

    Raises
    ------
    ModelError
        `layers` is missing or does not fit the tensors.
    """
    if layers is None:
        raise ModelError(
            "a state_dict does not hold groups, stride or dilation; pass layers, a list with an entry "
            f"such as {_EXAMPLE} for each layer"
        )
    entries = as_list(layers, "layers")
    if len(entries) > _MOST_LAYERS:
        raise ModelError(f"expected at most {_MOST_LAYERS} layers, found {len(entries)}")
    network = _Network(document, file_name, sibling)
    for i, raw in enumerate(entries):
        with within(f"layers[{i}]"):
            network.add(Fields(raw, ""), i)
    network.finish(len(entries))
    return Graph(tuple(network.nodes), "input", network.input_channels(), network.below)


class _Network:
    """Nodes so far, and the tensors they have used."""

    def __init__(self, document: Mapping[str, Any], file_name: str, sibling: Sibling | None) -> None:
        self.file_name = file_name
        self.documents: dict[str, Mapping[str, Any]] = {file_name: document}
        self.sibling = sibling
        self.used: set[tuple[str, str]] = set()
        self.nodes: list[Node] = []
        self.names: dict[str, str] = {"input": "input"}
        self.widths: dict[str, int] = {}
        self.below = "input"

    def add(self, fields: Fields, number: int) -> None:
        """Append the layer that `fields` describe."""
        kind = fields.text("type")
        if kind not in _KNOWN:
            refuse("field 'type'", f"one of {', '.join(_KNOWN)}", kind)
        known = _COMMON | _KNOWN[kind]
        for name in fields.unknown(known):
            raise ModelError(f"unknown field {str(name)[:40]!r}; known are {', '.join(sorted(known))}")
        source = self.named(fields.text("input")) if fields.has("input") else self.below
        name = f"layer {number} {kind}"
        if kind in ("add", "multiply", "concat"):
            self._combine(fields, kind, name)
        elif kind == "activation":
            self._put(Activate(name, source, _activation(fields)), self.widths.get(source))
        else:
            getattr(self, f"_{kind}")(fields, name, source)
        self.below = self.nodes[-1].output
        own = fields.text("name", name)
        if own in self.names:
            raise ModelError(f"two layers are called {own[:40]!r}")
        self.names[own] = self.below

    def named(self, name: str) -> str:
        """The signal of the layer called `name`."""
        if name not in self.names:
            raise ModelError(f"no earlier layer is called {name[:40]!r}")
        return self.names[name]

    def tensor(self, fields: Fields, key: str, *shape: int) -> Array:
        """A tensor of the layer, of exactly that shape."""
        file, full = self._document_of(fields), fields.text("prefix", "") + key
        document = self.documents[file]
        if full not in document:
            refuse(f"tensor {full[:60]!r}", f"an array of shape {list(shape)}", None)
        self.used.add((file, full))
        return as_array(document[full], shape, f"tensor {full[:60]!r}")

    def finish(self, count: int) -> None:
        """Raise `ModelError` where a tensor of any file is left over."""
        for file, document in self.documents.items():
            for key in sorted(document):
                if (file, key) not in self.used and key.rpartition(".")[2] not in _NO_TENSORS:
                    raise ModelError(f"tensor {key[:60]!r} belongs to none of the {count} layers given")

    def input_channels(self) -> int:
        """What the layers that read the input take."""
        if "input" not in self.widths:
            raise ModelError("no layer says how many channels the input has")
        return self.widths["input"]

    def _document_of(self, fields: Fields) -> str:
        name = fields.text("file", self.file_name)
        if name not in self.documents:
            if self.sibling is None:
                raise ModelError(f"file {name[:60]!r}: other files are only read beside a model's own")
            with within(f"file {name[:60]!r}"):
                self.documents[name] = self.sibling(name)
        return name

    def _put(self, node: Node, width: int | None) -> None:
        self.nodes.append(node)
        if width is not None:
            self.widths[node.output] = width

    def _expect(self, source: str, channels: int, what: str) -> int:
        """Note or check how many channels a signal has."""
        found = self.widths.setdefault(source, channels)
        if found != channels:
            raise ModelError(f"expected {what} {found} like what it reads, found {channels}")
        return channels

    def _combine(self, fields: Fields, kind: str, name: str) -> None:
        sources = [self.named(str(other)) for other in fields.items("inputs")]
        widths = [self.widths.get(source) for source in sources]
        if kind == "concat":
            total = sum(width for width in widths if width is not None)
            self._put(Concat(name, tuple(sources)), None if None in widths else total)
        elif len(sources) != 2:
            raise ModelError(f"expected two inputs to {kind}, found {len(sources)}")
        else:
            self._put((Add if kind == "add" else Multiply)(name, sources[0], sources[1]), widths[0])

    def _convolution(self, fields: Fields, source: str) -> tuple[int, int, int]:
        inputs, outputs = fields.integer("in_channels"), fields.integer("out_channels")
        groups = fields.integer("groups", 1)
        check_groups(fields.text("type"), groups, inputs, outputs)
        return self._expect(source, inputs, "in_channels"), outputs, groups

    def _bias(self, fields: Fields, outputs: int) -> Array | None:
        return self.tensor(fields, "bias", outputs) if fields.flag("bias", True) else None

    def _conv1d(self, fields: Fields, name: str, source: str) -> None:
        inputs, outputs, groups = self._convolution(fields, source)
        weight = self.tensor(fields, "weight", outputs, inputs // groups, fields.integer("kernel_size"))
        dilation, stride = fields.integer("dilation", 1), fields.integer("stride", 1)
        bias = self._bias(fields, outputs)
        self._put(Conv1d(name, source, weight, bias, groups, dilation, stride), outputs)
        if fields.flag("hold", False):
            self._put(Upsample(f"{name} held", name, stride), outputs)

    def _conv_transpose1d(self, fields: Fields, name: str, source: str) -> None:
        inputs, outputs, groups = self._convolution(fields, source)
        weight = self.tensor(fields, "weight", inputs, outputs // groups, fields.integer("kernel_size"))
        dilation, stride = fields.integer("dilation", 1), fields.integer("stride", 1)
        bias = self._bias(fields, outputs)
        self._put(ConvTranspose1d(name, source, weight, bias, groups, dilation, stride), outputs)

    def _linear(self, fields: Fields, name: str, source: str) -> None:
        inputs = self._expect(source, fields.integer("in_features"), "in_features")
        outputs = fields.integer("out_features")
        weight = self.tensor(fields, "weight", outputs, inputs)
        self._put(Conv1d(name, source, weight[:, :, None], self._bias(fields, outputs)), outputs)

    def _recurrent(self, fields: Fields, name: str, source: str, gates: int) -> None:
        inputs = self._expect(source, fields.integer("input_size"), "input_size")
        hidden = fields.integer("hidden_size")
        for k in range(fields.integer("num_layers", 1)):
            weights = (
                self.tensor(fields, f"weight_ih_l{k}", gates * hidden, hidden if k else inputs),
                self.tensor(fields, f"weight_hh_l{k}", gates * hidden, hidden),
            )
            ih, hh = (self.tensor(fields, f"bias_{which}_l{k}", gates * hidden) for which in ("ih", "hh"))
            output = f"{name} {k}"
            if gates == 3:
                self._put(Gru(output, source, *weights, ih, hh), hidden)
            else:
                bias = (ih.astype(np.float64) + hh).astype(np.float32)
                self._put(Lstm(output, source, *weights, bias), hidden)
            source = output

    def _gru(self, fields: Fields, name: str, source: str) -> None:
        self._recurrent(fields, name, source, 3)

    def _lstm(self, fields: Fields, name: str, source: str) -> None:
        self._recurrent(fields, name, source, 4)

    def _batchnorm(self, fields: Fields, name: str, source: str) -> None:
        channels = self._expect(source, fields.integer("channels"), "channels")
        keys = ("running_mean", "running_var", "weight", "bias")
        mean, variance, gamma, beta = (self.tensor(fields, key, channels) for key in keys)
        document = self.documents[self._document_of(fields)]
        stored = document.get(fields.text("prefix", "") + "eps", 1e-5)
        epsilon = fields.number("eps") if fields.has("eps") else as_number(stored, "tensor 'eps'")
        self._put(BatchNorm(name, source, mean, variance, gamma, beta, epsilon), channels)

    def _prelu(self, fields: Fields, name: str, source: str) -> None:
        channels = self._expect(source, fields.integer("channels"), "channels")
        document = self.documents[self._document_of(fields)]
        found = document.get(fields.text("prefix", "") + "weight")
        count = 1 if isinstance(found, list) and len(found) == 1 else channels
        slopes = self.tensor(fields, "weight", count)
        self._put(Activate(name, source, Activation("prelu", tuple(map(float, slopes)))), channels)


def _activation(fields: Fields) -> Activation:
    kind = fields.text("kind")
    if kind not in ACTIVATIONS:
        refuse("field 'kind'", f"one of {', '.join(ACTIVATIONS)}", kind)
    raw = fields.raw.get("parameters", [])
    if not isinstance(raw, list | tuple) or len(raw) > 65536:
        refuse("field 'parameters'", "a list of numbers", raw)
    return Activation(kind, tuple(as_number(value, "field 'parameters'") for value in raw))
