"""WaveNet as a .nam file of versions 0.5 to 0.7 holds it, in plain nodes.

The order of weights and the wiring are those of NeuralAmpModelerCore (``NAM/wavenet``) and of the
trainer, neural-amp-modeler (``nam/models/wavenet``). The passes fuse what is written plainly here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ModelError
from ..graph import Graph
from ..layers import Add, Affine, Array, Conv1d, Crossfade, Multiply, Node, Slice, check_groups
from ._nam_activation import read_activation
from ._nam_parts import Parts, nodes_inside, settling_frames
from ._nam_wavenet_config import FILMS, Film, Layer, LayerArray, Width, read_array, whole
from ._reading import Fields, WeightCursor

_CONFIG_FIELDS = {"layers", "head", "head_scale", "in_channels", "condition_dsp"}


def read_wavenet(config: Fields, weights: WeightCursor, quality: float, condition: Graph | None) -> Parts:
    """Turn a WaveNet's config and weights into nodes.

    Parameters
    ----------
    config : Fields
        The ``config`` object of the file.
    weights : WeightCursor
        At the first weight; left behind the last one the network takes.
    quality : float
        From 0 to 1; how many channels of slimmable arrays are kept: the leading ones of every tensor.
    condition : Graph, optional
        The model named ``condition_dsp``, whose answer conditions the layers in place of the input.

    Raises
    ------
    ModelError
        A field is mistyped, sizes disagree, or weights run out.
    """
    noted: dict[str, None] = {}
    for name in config.unknown(_CONFIG_FIELDS):
        noted[f"field {name[:40]!r} of the WaveNet's config was ignored"] = None
    arrays = [
        read_array(Fields(raw, f"array {a}"), quality, noted) for a, raw in enumerate(config.items("layers"))
    ]
    inputs = arrays[0].input_size
    _check_sizes(config, arrays, condition)
    if condition is None:
        builder = _Builder(weights, [], "input", inputs)
    else:
        inside, answer = nodes_inside(condition, "condition ", "input")
        builder = _Builder(weights, list(inside), answer, condition.output_channels)
    below, head = _Signal("input", whole(inputs)), ""
    for i, array in enumerate(arrays):
        if i:
            _check_joint(arrays[i - 1], array)
        out = whole(array.head_channels)
        if i + 1 < len(arrays):
            out = Width(out.full, arrays[i + 1].head_input.kept)
        below, head = builder.array(array, below, head, out)
    reach = _reach(arrays) + _post_stack(builder, config, head, arrays[-1].head_channels, noted)
    prewarm = reach + (1 if condition is None else settling_frames(condition))
    notes = (*noted, *(f"condition: {note}" for note in (condition.notes if condition else ())))
    return Parts(tuple(builder.nodes), inputs, prewarm, notes)


def _check_sizes(config: Fields, arrays: list[LayerArray], condition: Graph | None) -> None:
    """Compare what arrays say of the signals around them with what these signals are."""
    inputs = arrays[0].input_size
    if config.integer("in_channels", inputs) != inputs:
        raise ModelError(
            f"{arrays[0].where}: expected input_size {config.integer('in_channels')} as in_channels says, "
            f"found {inputs}"
        )
    if condition is not None and condition.input_channels != inputs:
        raise ModelError(
            f"condition_dsp: expected {inputs} input channels like the model's, "
            f"found {condition.input_channels}"
        )
    given, what = (inputs, "the model's input channels")
    if condition is not None:
        given, what = (condition.output_channels, "the output channels of condition_dsp")
    for array in arrays:
        if array.condition_size != given:
            raise ModelError(
                f"{array.where}: expected condition_size {given}, {what}, found {array.condition_size}"
            )


def _check_joint(before: LayerArray, array: LayerArray) -> None:
    """Compare what an array gives with what the next one takes: the sum for the head and the stream."""
    found = (array.head_input.full, array.input_size)
    if found != (before.head_channels, before.channels.full):
        raise ModelError(
            f"{array.where}: expected {before.head_channels} channels into the head and input_size "
            f"{before.channels.full} after {before.where}, found {found[0]} and {found[1]}"
        )


def _reach(arrays: list[LayerArray]) -> int:
    """Past frames of the input that the last array's head depends on."""
    stream = head = 0
    for array in arrays:
        stream += sum((layer.kernel - 1) * layer.dilation for layer in array.layers)
        head = max(stream, head) + (array.head_kernel - 1) * array.head_dilation
    return head


def _post_stack(builder: _Builder, config: Fields, signal: str, channels: int, notes: dict[str, None]) -> int:
    """Head scale, then the optional post-stack head: an activation and a convolution, repeated.

    The scale is the file's very last weight but is applied first, so its node is put in afterwards.
    Returns the past frames the head depends on.
    """
    at = len(builder.nodes)
    scaled, reach = "head scale", 0
    if config.has("head"):
        head = config.fields("head")
        if head.integer("in_channels", channels) != channels:
            raise ModelError(
                f"post-stack head: expected in_channels {channels}, found {head.integer('in_channels')}"
            )
        activation = read_activation(head.value("activation"), "post-stack head activation", notes)
        kernels = head.integers("kernel_sizes")
        reach = sum(kernels) - len(kernels)
        widths = [channels, *[head.integer("channels")] * (len(kernels) - 1), head.integer("out_channels")]
        below = scaled
        for i, kernel in enumerate(kernels):
            where = f"post-stack head layer {i}"
            builder.nodes += activation.nodes(f"{where} activation", below)
            taken = builder.take(f"{where} conv", whole(widths[i]), whole(widths[i + 1]), kernel, bias=True)
            below = builder.conv(f"{where} conv", f"{where} activation", taken)
    scale = builder.weights.take((1,), "head scale")
    builder.nodes.insert(at, Affine(scaled, signal, scale))
    return reach


@dataclass(frozen=True)
class _Signal:
    """A signal's name and width."""

    name: str
    width: Width


@dataclass(frozen=True)
class _Taken:
    """A convolution's parameters, taken from the file before its place in the graph has come."""

    weight: Array
    bias: Array | None
    groups: int = 1
    dilation: int = 1


class _Builder:
    """Takes weights in the file's order and strings nodes together."""

    def __init__(
        self, weights: WeightCursor, nodes: list[Node], condition: str, condition_channels: int
    ) -> None:
        self.weights = weights
        self.nodes = nodes
        self.condition = _Signal(condition, whole(condition_channels))

    def take(
        self,
        name: str,
        inputs: Width,
        outputs: Width,
        kernel: int = 1,
        *,
        bias: bool,
        groups: int = 1,
        dilation: int = 1,
    ) -> _Taken:
        """Take weights [out][in / groups][kernel] and then the bias; keep the leading channels."""
        check_groups(name, groups, inputs.full, outputs.full)
        if groups > 1 and (inputs.kept, outputs.kept) != (inputs.full, outputs.full):
            raise ModelError(f"{name}: cannot be slimmed in {groups} groups, expected 1")
        weight = self.weights.take((outputs.full, inputs.full // groups, kernel), name)
        offset = self.weights.take((outputs.full,), name)[: outputs.kept] if bias else None
        return _Taken(weight[: outputs.kept, : inputs.kept // groups], offset, groups, dilation)

    def conv(self, name: str, source: str, taken: _Taken) -> str:
        """Append a convolution; return its name."""
        self.nodes.append(Conv1d(name, source, taken.weight, taken.bias, taken.groups, taken.dilation))
        return name

    def add(self, name: str, a: str, b: str) -> str:
        """Append a sum; return its name."""
        self.nodes.append(Add(name, a, b))
        return name

    def array(self, array: LayerArray, source: _Signal, head: str, head_out: Width) -> tuple[_Signal, str]:
        """Append one array of layers; return its residual stream and the name of its head's signal.

        `head` is the previous array's head signal, from which this one's sum starts, or empty.
        """
        name = f"{array.where} rechannel"
        stream = self.conv(name, source.name, self.take(name, source.width, array.channels, bias=False))
        for i, layer in enumerate(array.layers):
            where = f"{array.where} layer {i}"
            stream, term = _LayerBuilder(self, array, layer, where).append(stream)
            head = self.add(f"{where} head sum", head, term) if head else term
        name = f"{array.where} head"
        taken = self.take(
            name,
            array.head_input,
            head_out,
            array.head_kernel,
            bias=array.head_bias,
            dilation=array.head_dilation,
        )
        return _Signal(stream, array.channels), self.conv(name, head, taken)


class _LayerBuilder:
    """Appends one layer: first takes all its weights, whose order in the file is not that of the nodes."""

    def __init__(self, builder: _Builder, array: LayerArray, layer: Layer, where: str) -> None:
        self._builder = builder
        self._layer = layer
        self._where = where
        self._bottleneck = array.bottleneck.kept
        self._full_bottleneck = array.bottleneck.full
        self._films = array.films
        mid = array.bottleneck.times(1 if layer.gating == "none" else 2)
        self._taken = self._take_convolutions(array, layer, mid)
        self._widths = {
            "conv_pre_film": array.channels,
            "conv_post_film": mid,
            "input_mixin_pre_film": builder.condition.width,
            "input_mixin_post_film": mid,
            "activation_pre_film": mid,
            "activation_post_film": array.bottleneck,
            "layer1x1_post_film": array.channels,
            "head1x1_post_film": whole(array.head1x1_channels or 1),
        }
        self._take_films(array.films)

    def _take_convolutions(self, array: LayerArray, layer: Layer, mid: Width) -> dict[str, _Taken]:
        def take(name: str, inputs: Width, outputs: Width, groups: int, bias: bool = True) -> None:
            taken[name] = self._builder.take(
                f"{self._where} {name}", inputs, outputs, bias=bias, groups=groups
            )

        taken: dict[str, _Taken] = {}
        taken["conv"] = self._builder.take(
            f"{self._where} conv",
            array.channels,
            mid,
            layer.kernel,
            bias=True,
            groups=array.groups_input,
            dilation=layer.dilation,
        )
        take("mixin", self._builder.condition.width, mid, array.groups_mixin, bias=False)
        if array.layer1x1_groups is not None:
            take("layer1x1", array.bottleneck, array.channels, array.layer1x1_groups)
        if array.head1x1_channels is not None:
            take("head1x1", array.bottleneck, whole(array.head1x1_channels), array.head1x1_groups)
        return taken

    def _take_films(self, films: Mapping[str, Film]) -> None:
        for name in FILMS:
            if name in films:
                outputs = self._widths[name].times(2 if films[name].shift else 1)
                self._taken[name] = self._builder.take(
                    f"{self._where} {name}",
                    self._builder.condition.width,
                    outputs,
                    bias=True,
                    groups=films[name].groups,
                )

    def append(self, source: str) -> tuple[str, str]:
        """Append the layer's nodes; return the signals of the residual stream and of the head's term."""
        where, condition = self._where, self._builder.condition.name
        conv = self._conv("conv", self._film("conv_pre_film", source))
        mixin = self._conv("mixin", self._film("input_mixin_pre_film", condition))
        conv = self._film("conv_post_film", conv)
        mixin = self._film("input_mixin_post_film", mixin)
        z = self._film("activation_pre_film", self._builder.add(f"{where} sum", conv, mixin))
        active = self._film("activation_post_film", self._activation(z))
        through = term = active
        if "layer1x1" in self._taken:
            through = self._film("layer1x1_post_film", self._conv("layer1x1", active))
        if "head1x1" in self._taken:
            term = self._film("head1x1_post_film", self._conv("head1x1", active))
        return self._builder.add(f"{where} residual", source, through), term

    def _conv(self, name: str, source: str) -> str:
        return self._builder.conv(f"{self._where} {name}", source, self._taken[name])

    def _film(self, name: str, signal: str) -> str:
        """Append feature-wise linear modulation where it is active: half of it scales, half shifts."""
        if name not in self._films:
            return signal
        film = self._conv(name, self._builder.condition.name)
        if not self._films[name].shift:
            self._builder.nodes.append(Multiply(f"{film} scaled", signal, film))
            return f"{film} scaled"
        width = self._widths[name].kept
        self._builder.nodes += [
            Slice(f"{film} scale", film, 0, width),
            Slice(f"{film} shift", film, width, width),
            Multiply(f"{film} scaled", signal, f"{film} scale"),
        ]
        return self._builder.add(f"{film} shifted", f"{film} scaled", f"{film} shift")

    def _activation(self, z: str) -> str:
        """Append plain, gated or blended activation of `z`; return its signal."""
        where, layer, width = self._where, self._layer, self._bottleneck
        activation, gate = (
            curve.lead(width, self._full_bottleneck) for curve in (layer.activation, layer.secondary)
        )
        if layer.gating == "none":
            self._builder.nodes += activation.nodes(f"{where} activation", z)
            return f"{where} activation"
        self._builder.nodes += [
            Slice(f"{where} top", z, 0, width),
            Slice(f"{where} bottom", z, width, width),
            *activation.nodes(f"{where} activation", f"{where} top"),
            *gate.nodes(f"{where} gate", f"{where} bottom"),
        ]
        if layer.gating == "gated":
            self._builder.nodes.append(Multiply(f"{where} gated", f"{where} activation", f"{where} gate"))
            return f"{where} gated"
        self._builder.nodes.append(
            Crossfade(f"{where} blended", f"{where} top", f"{where} activation", f"{where} gate")
        )
        return f"{where} blended"
