"""WaveNet as a .nam file of versions 0.5 to 0.7 holds it, in plain nodes.

The order of weights and the wiring are those of NeuralAmpModelerCore (``NAM/wavenet``) and of the
trainer, neural-amp-modeler (``nam/models/wavenet``). The passes fuse what is written plainly here.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..activations import Activation
from ..errors import ModelError
from ..layers import Activate, Add, Affine, Conv1d, Crossfade, Multiply, Node, Slice, check_groups
from ._nam_activation import read_activation
from ._reading import Fields, WeightCursor, as_integer, as_text, refuse

_FILMS = (
    "conv_pre_film",
    "conv_post_film",
    "input_mixin_pre_film",
    "input_mixin_post_film",
    "activation_pre_film",
    "activation_post_film",
    "layer1x1_post_film",
    "head1x1_post_film",
)
_ARRAY_FIELDS = {
    *("input_size", "condition_size", "channels", "bottleneck", "dilations", "kernel_size", "kernel_sizes"),
    *("activation", "secondary_activation", "gated", "gating_mode", "groups_input", "groups_input_mixin"),
    *("layer1x1", "head1x1", "head", "head_size", "head_bias", "slimmable"),
    *_FILMS,
}
_CONFIG_FIELDS = {"layers", "head", "head_scale", "in_channels", "condition_dsp"}
_GATING_MODES = ("none", "gated", "blended")


@dataclass(frozen=True)
class _Layer:
    """What one layer of an array is made of."""

    kernel: int
    dilation: int
    gating: str
    activation: Activation
    secondary: Activation


@dataclass(frozen=True)
class _Array:
    """Sizes of one array of layers, as the file gives them."""

    where: str
    input_size: int
    channels: int
    bottleneck: int
    groups_input: int
    groups_mixin: int
    layer1x1_groups: int | None
    head1x1_channels: int | None
    head1x1_groups: int
    head_channels: int
    head_kernel: int
    head_dilation: int
    head_bias: bool
    layers: tuple[_Layer, ...]


@dataclass(frozen=True)
class WaveNetParts:
    """What `read_wavenet` returns: nodes from signal ``input`` to the last node's signal, and notes."""

    nodes: tuple[Node, ...]
    input_channels: int
    notes: tuple[str, ...]


def read_wavenet(config: Fields, weights: WeightCursor) -> WaveNetParts:
    """Turn a WaveNet's config and weights into nodes.

    Parameters
    ----------
    config : Fields
        The ``config`` object of the file.
    weights : WeightCursor
        At the first weight; left behind the last one the network takes.

    Raises
    ------
    ModelError
        A field is mistyped, sizes disagree, weights run out, or the network uses a feature that is not
        supported yet.
    """
    if config.has("condition_dsp"):
        raise ModelError("WaveNet with condition_dsp is not supported yet")
    notes: dict[str, None] = {}
    for name in config.unknown(_CONFIG_FIELDS):
        notes[f"field {name[:40]!r} of the WaveNet's config was ignored"] = None
    arrays = [_read_array(Fields(raw, f"array {a}"), notes) for a, raw in enumerate(config.items("layers"))]
    input_channels = _input_channels(config, arrays)
    builder = _Builder(weights)
    stream, head = "input", ""
    for i, array in enumerate(arrays):
        if i and (array.channels, array.input_size) != (arrays[i - 1].head_channels, arrays[i - 1].channels):
            raise ModelError(
                f"{array.where}: expected channels {arrays[i - 1].head_channels} and input_size "
                f"{arrays[i - 1].channels} after {arrays[i - 1].where}, "
                f"found {array.channels} and {array.input_size}"
            )
        stream, head = builder.array(array, stream, head, input_channels)
    _post_stack(builder, config, head, arrays[-1].head_channels, notes)
    return WaveNetParts(tuple(builder.nodes), input_channels, tuple(notes))


def _input_channels(config: Fields, arrays: list[_Array]) -> int:
    channels = arrays[0].input_size
    if config.integer("in_channels", channels) != channels:
        raise ModelError(
            f"{arrays[0].where}: expected input_size {config.integer('in_channels')} as in_channels says, "
            f"found {channels}"
        )
    for array, raw in zip(arrays, config.items("layers"), strict=True):
        condition = Fields(raw, array.where).integer("condition_size")
        if condition != channels:
            raise ModelError(
                f"{array.where}: expected condition_size {channels}, the model's input channels, "
                f"found {condition}"
            )
    return channels


def _read_array(fields: Fields, notes: dict[str, None]) -> _Array:
    _refuse_unsupported(fields)
    for name in fields.unknown(_ARRAY_FIELDS):
        notes[f"{fields.where}: field {name[:40]!r} was ignored"] = None
    channels = fields.integer("channels")
    bottleneck = fields.integer("bottleneck", channels)
    layer1x1_groups: int | None = 1
    if fields.has("layer1x1"):
        layer1x1 = fields.fields("layer1x1")
        layer1x1_groups = layer1x1.integer("groups", 1) if layer1x1.flag("active", True) else None
    if layer1x1_groups is None:
        _note_inactive_layer1x1(fields, channels, bottleneck, notes)
    head1x1_channels, head1x1_groups = None, 1
    if fields.has("head1x1") and fields.fields("head1x1").flag("active", False):
        head1x1 = fields.fields("head1x1")
        head1x1_channels, head1x1_groups = head1x1.integer("out_channels"), head1x1.integer("groups", 1)
    head = _read_head(fields)
    return _Array(
        where=fields.where,
        input_size=fields.integer("input_size"),
        channels=channels,
        bottleneck=bottleneck,
        groups_input=fields.integer("groups_input", 1),
        groups_mixin=fields.integer("groups_input_mixin", 1),
        layer1x1_groups=layer1x1_groups,
        head1x1_channels=head1x1_channels,
        head1x1_groups=head1x1_groups,
        head_channels=head[0],
        head_kernel=head[1],
        head_dilation=head[2],
        head_bias=head[3],
        layers=_read_layers(fields, notes),
    )


def _refuse_unsupported(fields: Fields) -> None:
    for name in _FILMS:
        film = fields.raw.get(name)
        if film is None or film is False:
            continue
        if film is True or Fields(film, fields.place(name)).flag("active", True):
            raise ModelError(f"{fields.where}: an active FiLM ({name}) is not supported yet")
    if fields.has("slimmable"):
        raise ModelError(f"{fields.where}: a slimmable WaveNet is not supported yet")


def _note_inactive_layer1x1(fields: Fields, channels: int, bottleneck: int, notes: dict[str, None]) -> None:
    """The trainer adds the activated signal itself to the residual, NeuralAmpModelerCore adds nothing."""
    if channels != bottleneck:
        raise ModelError(
            f"{fields.where}: layer1x1 is inactive, which needs a bottleneck of {channels} "
            f"like the channels, found {bottleneck}"
        )
    notes[
        f"{fields.where}: layer1x1 is inactive; each layer's activation itself joins the residual, as it was "
        "trained; NeuralAmpModelerCore leaves it out and sounds different"
    ] = None


def _read_head(fields: Fields) -> tuple[int, int, int, bool]:
    """Return channels, kernel, dilation and bias of an array's head, in either spelling."""
    if fields.has("head"):
        head = fields.fields("head")
        return (
            head.integer("out_channels"),
            head.integer("kernel_size"),
            head.integer("head_dilation", 1),
            head.flag("bias"),
        )
    if "head_size" not in fields.raw:
        raise ModelError(f"{fields.where}: field 'head' or 'head_size' is missing")
    return fields.integer("head_size"), 1, 1, fields.flag("head_bias")


def _read_layers(fields: Fields, notes: dict[str, None]) -> tuple[_Layer, ...]:
    dilations = fields.integers("dilations")
    count = len(dilations)
    if ("kernel_size" in fields.raw) == ("kernel_sizes" in fields.raw):
        raise ModelError(f"{fields.where}: expected one of the fields 'kernel_size' and 'kernel_sizes'")
    kernel_field = "kernel_sizes" if "kernel_sizes" in fields.raw else "kernel_size"
    kernels = _per_layer(fields, kernel_field, count)
    activations = _per_layer(fields, "activation", count)
    gatings = _gatings(fields, count)
    secondaries: list[object] = [None] * count
    if fields.has("secondary_activation") and any(gating != "none" for gating in gatings):
        secondaries = _per_layer(fields, "secondary_activation", count)
    return tuple(
        _Layer(
            kernel=as_integer(kernels[i], f"{fields.where} layer {i}: field '{kernel_field}'"),
            dilation=dilations[i],
            gating=gatings[i],
            activation=read_activation(activations[i], f"{fields.where} layer {i} activation", notes),
            secondary=_secondary(secondaries[i], gatings[i], f"{fields.where} layer {i} gate", notes),
        )
        for i in range(count)
    )


def _secondary(value: object, gating: str, where: str, notes: dict[str, None]) -> Activation:
    if gating == "none" or value is None:
        return Activation("sigmoid")
    return read_activation(value, where, notes)


def _per_layer(fields: Fields, name: str, count: int) -> list[object]:
    """One value per layer: a list with an entry for each, or one value for all."""
    value = fields.value(name)
    if not isinstance(value, list):
        return [value] * count
    if len(value) != count:
        raise ModelError(
            f"{fields.place(name)}: expected {count} entries, one per dilation, found {len(value)}"
        )
    return value


def _gatings(fields: Fields, count: int) -> list[str]:
    if "gating_mode" not in fields.raw:
        return ["gated" if fields.flag("gated", False) else "none"] * count
    place = fields.place("gating_mode")
    modes = [as_text(mode, place) for mode in _per_layer(fields, "gating_mode", count)]
    for mode in modes:
        if mode not in _GATING_MODES:
            refuse(place, f"one of {', '.join(_GATING_MODES)}", mode)
    return modes


def _post_stack(
    builder: _Builder, config: Fields, signal: str, channels: int, notes: dict[str, None]
) -> None:
    """Head scale, then the optional post-stack head: an activation and a convolution, repeated.

    The scale is the file's very last weight but is applied first, so its node is put in afterwards.
    """
    at = len(builder.nodes)
    scaled = "head scale"
    if config.has("head"):
        head = config.fields("head")
        if head.integer("in_channels", channels) != channels:
            raise ModelError(
                f"post-stack head: expected in_channels {channels}, found {head.integer('in_channels')}"
            )
        activation = read_activation(head.value("activation"), "post-stack head activation", notes)
        kernels = head.integers("kernel_sizes")
        widths = [channels, *[head.integer("channels")] * (len(kernels) - 1), head.integer("out_channels")]
        below = scaled
        for i, kernel in enumerate(kernels):
            where = f"post-stack head layer {i}"
            builder.nodes.append(Activate(f"{where} activation", below, activation))
            below = builder.conv(
                f"{where} conv", f"{where} activation", widths[i], widths[i + 1], kernel, bias=True
            )
    scale = builder.weights.take((1,), "head scale")
    builder.nodes.insert(at, Affine(scaled, signal, scale))


class _Builder:
    """Takes weights in the file's order and strings nodes together."""

    def __init__(self, weights: WeightCursor) -> None:
        self.weights = weights
        self.nodes: list[Node] = []

    def conv(
        self,
        name: str,
        source: str,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        bias: bool,
        groups: int = 1,
        dilation: int = 1,
    ) -> str:
        """Append a convolution, weights [out][in / groups][kernel] and then the bias; return its name."""
        check_groups(name, groups, in_channels, out_channels)
        weight = self.weights.take((out_channels, in_channels // groups, kernel), name)
        offset = self.weights.take((out_channels,), name) if bias else None
        self.nodes.append(Conv1d(name, source, weight, offset, groups, dilation))
        return name

    def add(self, name: str, a: str, b: str) -> str:
        """Append a sum; return its name."""
        self.nodes.append(Add(name, a, b))
        return name

    def array(self, array: _Array, source: str, head: str, condition_channels: int) -> tuple[str, str]:
        """Append one array of layers; return the signals of its residual stream and of its head.

        `head` is the previous array's head signal, from which this one's sum starts, or empty.
        """
        stream = self.conv(f"{array.where} rechannel", source, array.input_size, array.channels, bias=False)
        width = array.head1x1_channels or array.bottleneck
        for i, layer in enumerate(array.layers):
            stream, term = self._layer(array, layer, f"{array.where} layer {i}", stream, condition_channels)
            head = self.add(f"{array.where} layer {i} head sum", head, term) if head else term
        head = self.conv(
            f"{array.where} head",
            head,
            width,
            array.head_channels,
            array.head_kernel,
            bias=array.head_bias,
            dilation=array.head_dilation,
        )
        return stream, head

    def _layer(
        self, array: _Array, layer: _Layer, where: str, source: str, condition_channels: int
    ) -> tuple[str, str]:
        """Append one layer; return the signals of the residual stream and of the head's term."""
        mid = array.bottleneck * (1 if layer.gating == "none" else 2)
        conv = self.conv(
            f"{where} conv",
            source,
            array.channels,
            mid,
            layer.kernel,
            bias=True,
            groups=array.groups_input,
            dilation=layer.dilation,
        )
        mixin = self.conv(
            f"{where} mixin", "input", condition_channels, mid, bias=False, groups=array.groups_mixin
        )
        active = self._activation(layer, where, self.add(f"{where} sum", conv, mixin), array.bottleneck)
        through = active
        if array.layer1x1_groups is not None:
            through = self.conv(
                f"{where} layer1x1",
                active,
                array.bottleneck,
                array.channels,
                bias=True,
                groups=array.layer1x1_groups,
            )
        term = active
        if array.head1x1_channels is not None:
            term = self.conv(
                f"{where} head1x1",
                active,
                array.bottleneck,
                array.head1x1_channels,
                bias=True,
                groups=array.head1x1_groups,
            )
        return self.add(f"{where} residual", source, through), term

    def _activation(self, layer: _Layer, where: str, z: str, bottleneck: int) -> str:
        """Append plain, gated or blended activation of `z`; return its signal."""
        if layer.gating == "none":
            self.nodes.append(Activate(f"{where} activation", z, layer.activation))
            return f"{where} activation"
        self.nodes += [
            Slice(f"{where} top", z, 0, bottleneck),
            Slice(f"{where} bottom", z, bottleneck, bottleneck),
            Activate(f"{where} activation", f"{where} top", layer.activation),
            Activate(f"{where} gate", f"{where} bottom", layer.secondary),
        ]
        if layer.gating == "gated":
            self.nodes.append(Multiply(f"{where} gated", f"{where} activation", f"{where} gate"))
            return f"{where} gated"
        self.nodes.append(
            Crossfade(f"{where} blended", f"{where} top", f"{where} activation", f"{where} gate")
        )
        return f"{where} blended"
