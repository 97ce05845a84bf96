"""A WaveNet's config as a .nam file of versions 0.5 to 0.7 writes it, in all its spellings, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from ..errors import ModelError
from ._nam_activation import SIGMOID, Curve, read_activation
from ._reading import Fields, as_integer, as_text, refuse

#: Places of feature-wise linear modulation in a layer, in the order in which a file has their weights.
FILMS = (
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
    *FILMS,
}
_GATING_MODES = ("none", "gated", "blended")
_SLIM_METHOD = "slice_channels_uniform"


@dataclass(frozen=True)
class Width:
    """Channels as the file's weights have them, and how many leading ones of them are kept."""

    full: int
    kept: int

    def times(self, factor: int) -> Width:
        """Width of `factor` such signals one below the other."""
        return Width(factor * self.full, factor * self.kept)


def whole(channels: int) -> Width:
    """Width of which everything is kept."""
    return Width(channels, channels)


@dataclass(frozen=True)
class Film:
    """An active modulation: whether it shifts as well as scales, and its convolution's groups."""

    shift: bool
    groups: int


@dataclass(frozen=True)
class Layer:
    """What one layer of an array is made of."""

    kernel: int
    dilation: int
    gating: str
    activation: Curve
    secondary: Curve


@dataclass(frozen=True)
class LayerArray:
    """Sizes of one array of layers, as the file gives them."""

    where: str
    input_size: int
    condition_size: int
    channels: Width
    bottleneck: Width
    groups_input: int
    groups_mixin: int
    layer1x1_groups: int | None
    head1x1_channels: int | None
    head1x1_groups: int
    films: dict[str, Film]
    head_channels: int
    head_kernel: int
    head_dilation: int
    head_bias: bool
    layers: tuple[Layer, ...]

    @property
    def head_input(self) -> Width:
        """Width of what the layers sum up for the head."""
        return self.bottleneck if self.head1x1_channels is None else whole(self.head1x1_channels)


def read_array(fields: Fields, quality: float, notes: dict[str, None]) -> LayerArray:
    """Read one entry of ``layers``.

    Parameters
    ----------
    fields : Fields
    quality : float
        From 0 to 1; how many channels of a slimmable array are kept.
    notes : dict of str to None
        Gains a sentence where a field is ignored or another player would do otherwise.

    Raises
    ------
    ModelError
        A field is missing, mistyped or does not fit another one.
    """
    for name in fields.unknown(_ARRAY_FIELDS):
        notes[f"{fields.where}: field {name[:40]!r} was ignored"] = None
    channels, bottleneck = _widths(fields, quality, notes)
    layer1x1_groups: int | None = 1
    if fields.has("layer1x1"):
        layer1x1 = fields.fields("layer1x1")
        layer1x1_groups = layer1x1.integer("groups", 1) if layer1x1.flag("active", True) else None
    if layer1x1_groups is None:
        _note_inactive_layer1x1(fields, channels.full, bottleneck.full, notes)
    head1x1_channels, head1x1_groups = None, 1
    if fields.has("head1x1") and fields.fields("head1x1").flag("active", False):
        head1x1 = fields.fields("head1x1")
        head1x1_channels, head1x1_groups = head1x1.integer("out_channels"), head1x1.integer("groups", 1)
    head = _read_head(fields)
    return LayerArray(
        where=fields.where,
        input_size=fields.integer("input_size"),
        condition_size=fields.integer("condition_size"),
        channels=channels,
        bottleneck=bottleneck,
        groups_input=fields.integer("groups_input", 1),
        groups_mixin=fields.integer("groups_input_mixin", 1),
        layer1x1_groups=layer1x1_groups,
        head1x1_channels=head1x1_channels,
        head1x1_groups=head1x1_groups,
        films=_read_films(fields, layer1x1_groups is not None, head1x1_channels is not None),
        head_channels=head[0],
        head_kernel=head[1],
        head_dilation=head[2],
        head_bias=head[3],
        layers=_read_layers(fields, notes),
    )


def slim_channels(fields: Fields) -> Sequence[int] | None:
    """Return the numbers of channels an array may be cut down to, ascending; None if it is not slimmable.

    Raises
    ------
    ModelError
        The method is unknown, or a number is not from 1 to the array's channels or not above the one
        before.
    """
    if not fields.has("slimmable"):
        return None
    slimmable = Fields(fields.value("slimmable"), f"{fields.where} slimmable")
    if slimmable.text("method") != _SLIM_METHOD:
        refuse(slimmable.place("method"), repr(_SLIM_METHOD), slimmable.text("method"))
    channels = fields.integer("channels")
    if not slimmable.has("kwargs") or not slimmable.fields("kwargs").has("allowed_channels"):
        return range(1, channels + 1)
    kwargs = slimmable.fields("kwargs")
    allowed = kwargs.integers("allowed_channels")
    for i, number in enumerate(allowed):
        if not (allowed[i - 1] if i else 0) < number <= channels:
            raise ModelError(
                f"{kwargs.place('allowed_channels')}: expected ascending numbers up to the {channels} "
                f"channels, found {number} at {i}"
            )
    return allowed


def _widths(fields: Fields, quality: float, notes: dict[str, None]) -> tuple[Width, Width]:
    """Return channels and bottleneck, slimmed where the array is slimmable."""
    channels = fields.integer("channels")
    bottleneck = fields.integer("bottleneck", channels)
    allowed = slim_channels(fields)
    if allowed is None:
        return whole(channels), whole(bottleneck)
    kept = allowed[_choice(quality, len(allowed))]
    if bottleneck == channels:
        return Width(channels, kept), Width(bottleneck, kept)
    in_proportion = max(1, bottleneck * kept // channels)
    trained = in_proportion
    if len(allowed) == channels:  # every size from 1 on, which is how the trainer writes that none was chosen
        trained = 1 + _choice(quality, bottleneck)
    elif allowed[-1] <= bottleneck:
        trained = kept
    if trained != in_proportion:
        notes[
            f"{fields.where}: {trained} of the bottleneck's {bottleneck} channels are kept, as it was "
            f"trained; NeuralAmpModelerCore keeps {in_proportion} and sounds different"
        ] = None
    return Width(channels, kept), Width(bottleneck, trained)


def _choice(quality: float, count: int) -> int:
    """Which of `count` sizes, ascending, a quality from 0 to 1 stands for."""
    return min(floor(quality * count), count - 1)


def _read_films(fields: Fields, has_layer1x1: bool, has_head1x1: bool) -> dict[str, Film]:
    films = {}
    for name in FILMS:
        if not fields.has(name) or fields.raw[name] is False:
            continue
        film = fields.fields(name)
        if film.flag("active", True):
            films[name] = Film(film.flag("shift", True), film.integer("groups", 1))
    for name, is_there in (("layer1x1", has_layer1x1), ("head1x1", has_head1x1)):
        if f"{name}_post_film" in films and not is_there:
            raise ModelError(f"{fields.place(f'{name}_post_film')}: is active, but {name} is not")
    return films


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


def _read_layers(fields: Fields, notes: dict[str, None]) -> tuple[Layer, ...]:
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
        Layer(
            kernel=as_integer(kernels[i], f"{fields.where} layer {i}: field '{kernel_field}'"),
            dilation=dilations[i],
            gating=gatings[i],
            activation=read_activation(activations[i], f"{fields.where} layer {i} activation", notes),
            secondary=_secondary(secondaries[i], gatings[i], f"{fields.where} layer {i} gate", notes),
        )
        for i in range(count)
    )


def _secondary(value: object, gating: str, where: str, notes: dict[str, None]) -> Curve:
    if gating == "none" or value is None:
        return SIGMOID
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
