"""The smaller architectures of .nam files: Linear, ConvNet and LSTM, each a plain stack of layers.

Order of weights and start-up as in NeuralAmpModelerCore (``NAM/linear``, ``NAM/convnet``, ``NAM/lstm``).
"""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from ..layers import BatchNorm, Conv1d, Lstm, Node, check_groups
from ._nam_activation import read_activation
from ._nam_parts import Parts
from ._reading import Fields, WeightCursor

_CONVNET_KERNEL = 2
_LINEAR_ORDER = (
    "the first weight is taken for the newest frame, as NeuralAmpModelerCore takes it; the trainer has "
    "exported the reverse (neural-amp-modeler issue 696), which cannot be told from the file"
)


def read_linear(config: Fields, weights: WeightCursor) -> Parts:
    """Read an impulse response: `receptive_field` taps, newest frame first, then an optional bias.

    Raises
    ------
    ModelError
        A field is mistyped, weights run out, or the file wants more than one channel.
    """
    taps = config.integer("receptive_field")
    for name in ("in_channels", "out_channels"):
        if config.integer(name, 1) != 1:
            raise ModelError(f"{config.place(name)}: Linear with more than one channel is not supported")
    has_bias = config.flag("bias", False)
    weight = np.ascontiguousarray(weights.take((1, 1, taps), "linear")[:, :, ::-1])
    weight.flags.writeable = False
    bias = weights.take((1,), "linear") if has_bias else None
    notes = config.notes_on_ignored({"receptive_field", "bias", "in_channels", "out_channels"})
    if taps > 1:
        notes = (_LINEAR_ORDER, *notes)
    return Parts((Conv1d("linear", "input", weight, bias),), 1, 0, notes)


def read_conv_net(config: Fields, weights: WeightCursor) -> Parts:
    """Read blocks of a dilated convolution with two taps, batch normalisation and an activation.

    Per block the file has the kernel [channels][in / groups][2], then the bias, or with `batchnorm` mean,
    variance, gamma, beta and epsilon; last the head [out][channels] and its bias.

    Raises
    ------
    ModelError
        A field is mistyped, sizes disagree, or weights run out.
    """
    noted: dict[str, None] = {}
    channels, groups = config.integer("channels"), config.integer("groups", 1)
    inputs, outputs = config.integer("in_channels", 1), config.integer("out_channels", 1)
    activation = read_activation(config.value("activation"), "activation", noted)
    has_norm = config.flag("batchnorm")
    dilations = config.integers("dilations")
    nodes: list[Node] = []
    below, width = "input", inputs
    for i, dilation in enumerate(dilations):
        where = f"block {i}"
        check_groups(where, groups, width, channels)
        kernel = weights.take((channels, width // groups, _CONVNET_KERNEL), f"{where} conv")
        bias = None if has_norm else weights.take((channels,), f"{where} conv")
        nodes.append(Conv1d(f"{where} conv", below, kernel, bias, groups, dilation))
        if has_norm:
            nodes.append(_batch_norm(f"{where} batchnorm", nodes[-1].output, channels, weights))
        nodes += activation.nodes(f"{where} activation", nodes[-1].output)
        below, width = nodes[-1].output, channels
    head = weights.take((outputs, channels, 1), "head")
    nodes.append(Conv1d("head", below, head, weights.take((outputs,), "head")))
    known = {"channels", "dilations", "batchnorm", "activation", "groups", "in_channels", "out_channels"}
    prewarm = 1 + (_CONVNET_KERNEL - 1) * sum(dilations)
    return Parts(tuple(nodes), inputs, prewarm, (*noted, *config.notes_on_ignored(known)))


def _batch_norm(name: str, source: str, channels: int, weights: WeightCursor) -> BatchNorm:
    mean, variance, gamma, beta = (weights.take((channels,), name) for _ in range(4))
    epsilon = float(weights.take((1,), name)[0])
    return BatchNorm(name, source, mean, variance, gamma, beta, epsilon)


def read_lstm(config: Fields, weights: WeightCursor, sample_rate_hz: float) -> Parts:
    """Read layers of LSTM, then a weighted sum of the last one's state; settles for half a second.

    Per layer the file has one matrix [4 * hidden][input + hidden], one bias, then the initial h and c;
    gates in the order i, f, g, o.

    Raises
    ------
    ModelError
        A field is mistyped, sizes disagree, or weights run out.
    """
    inputs = config.integer("input_size")
    hidden = config.integer("hidden_size")
    outputs = config.integer("out_channels", 1)
    if config.integer("in_channels", inputs) != inputs:
        raise ModelError(
            f"{config.place('in_channels')}: expected {inputs} as input_size says, "
            f"found {config.integer('in_channels')}"
        )
    nodes: list[Node] = []
    below, width = "input", inputs
    for i in range(config.integer("num_layers")):
        name = f"lstm {i}"
        matrix = weights.take((4 * hidden, width + hidden), name)
        bias, h0, c0 = (weights.take((size,), name) for size in (4 * hidden, hidden, hidden))
        nodes.append(Lstm(name, below, matrix[:, :width], matrix[:, width:], bias, h0, c0))
        below, width = name, hidden
    weight = weights.take((outputs, hidden, 1), "head")
    nodes.append(Conv1d("head", below, weight, weights.take((outputs,), "head")))
    known = {"input_size", "hidden_size", "num_layers", "in_channels", "out_channels"}
    notes = config.notes_on_ignored(known)
    return Parts(tuple(nodes), inputs, max(1, int(0.5 * sample_rate_hz)), notes)
