"""From what a user wishes to what can be opened: devices, rate, and which channel is which row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import BacklineError, DeviceError, ModelError
from .devices import (
    CLOCK,
    CLOCK_BLOCK_FRAMES,
    CLOCK_DEVICE,
    Device,
    Direction,
    find_device,
    why_no_device,
)
from .jack import period_frames
from .messages import Open, Opened
from .streams import common_rates, takes_rate

_LOWEST_HZ, _HIGHEST_HZ = 1000, 768000


def resolve(wish: Open) -> Opened:
    """Find devices that do what is wished for. Opens none of them.

    Raises
    ------
    DeviceError, MissingDependency
        There is no such device, or it lacks the channels or the rate.
    ModelError, BacklineError
        The channels are not those of the model, or not possible at all.
    """
    notes: list[str] = []
    source, sink = _devices(wish, notes)
    input_map, device_inputs = _inputs(wish, source)
    streams = len(input_map) // wish.model_inputs
    output_map = _outputs(wish, sink, streams * wish.model_outputs)
    rate_hz = _rate(wish, source, sink, (device_inputs, len(output_map)))
    block = wish.block_frames or _own_block(sink)
    return Opened(source, sink, rate_hz, streams, input_map, output_map, device_inputs, tuple(notes), block)


def _own_block(sink: Device) -> int:
    """Frames of the device's own blocks, or 0 where they are not known before it is opened."""
    if sink.index is None:
        return CLOCK_BLOCK_FRAMES
    return period_frames() if "jack" in sink.host_api.lower() else 0


def _devices(wish: Open, notes: list[str]) -> tuple[Device | None, Device]:
    clocks = [isinstance(each, str) and each.lower() == CLOCK for each in (wish.source, wish.sink)]
    if any(clocks):
        if not all(clocks) and wish.source is not None and wish.sink is not None:
            raise DeviceError(f"the {CLOCK} device stands alone: it cannot be one of two")
        return None, CLOCK_DEVICE
    if wish.source is None and wish.sink is None:
        reason = why_no_device()
        if reason is not None:
            notes.append(f"{reason}; running on the {CLOCK} device instead: nothing is heard")
            return None, CLOCK_DEVICE
    sink = find_device(wish.sink, "output")
    return (find_device(wish.source, "input") if wish.take_channels is None else None), sink


def _inputs(wish: Open, source: Device | None) -> tuple[tuple[int | None, ...], int]:
    """The input map, and how many channels the device has to offer."""
    if wish.take_channels is None:
        device = source or CLOCK_DEVICE
        chosen = _pick(wish, str(device), device.input_channels, range(1, wish.model_inputs + 1))
        return tuple(channel - 1 for channel in chosen), max(chosen)
    chosen = _pick(wish, "the take", wish.take_channels, range(1, wish.take_channels + 1))
    return tuple(channel - 1 for channel in chosen), 0


def _pick(wish: Open, what: str, there: int, default: Sequence[int]) -> Sequence[int]:
    chosen = wish.input_channels if wish.input_channels is not None else default
    _check_channels(what, "input", chosen, there)
    own = wish.model_inputs
    if len(chosen) != own and own != 1:
        raise ModelError(f"the model takes {own} channels, found {len(chosen)} ({what})")
    return chosen


def _outputs(wish: Open, sink: Device, rows: int) -> tuple[int | None, ...]:
    there = sink.output_channels
    default = range(1, min(2, there) + 1) if rows == 1 else range(1, rows + 1)
    chosen = wish.output_channels if wish.output_channels is not None else default
    _check_channels(str(sink), "output", chosen, there)
    if rows not in (1, len(chosen)):
        raise BacklineError(f"{rows} channels come out, but {len(chosen)} output channels were named")
    carried: list[int | None] = [None] * max(chosen)
    for number, channel in enumerate(chosen):
        carried[channel - 1] = 0 if rows == 1 else number
    return tuple(carried)


def _check_channels(what: str, direction: Direction, chosen: Sequence[int], there: int) -> None:
    if not chosen or len(set(chosen)) != len(chosen):
        raise BacklineError(f"{what}: expected different {direction} channels, found {list(chosen)}")
    for channel in chosen:
        if not 1 <= channel <= there:
            raise DeviceError(f"{what}: has {there} {direction} channels, found no channel {channel}")


def _rate(wish: Open, source: Device | None, sink: Device, channels: tuple[int, int]) -> float:
    """The first rate that is wished for and taken; where it may be, the device's own or a common one."""
    own = float(sink.default_rate_hz)
    wished = [float(rate) for rate in wish.rates_hz] or [own]
    for rate_hz in wished:
        if not (rate_hz.is_integer() and _LOWEST_HZ <= rate_hz <= _HIGHEST_HZ):
            raise BacklineError(
                f"{sink}: found a rate of {rate_hz} Hz, expected a whole number from {_LOWEST_HZ} to "
                f"{_HIGHEST_HZ}"
            )
        if sink.index is None or takes_rate(source, sink, channels, rate_hz):
            return rate_hz
    others = [] if wish.must_fit else [own]
    for rate_hz in others:
        if rate_hz.is_integer() and takes_rate(source, sink, channels, rate_hz):
            return rate_hz
    what = str(sink) if source in (None, sink) else f"{source} with {sink}"
    rates = common_rates(source, sink, channels)
    if not rates:
        raise DeviceError(
            f"{what}: refuses {channels[0]} input and {channels[1]} output channels at {wished[0]:g} Hz and "
            "at every common rate"
        )
    if not wish.must_fit:
        return rates[-1]
    listed = ", ".join(f"{rate:g}" for rate in rates)
    raise DeviceError(f"{what}: refuses a rate of {wished[0]:g} Hz; it takes {listed} Hz")


def same_again(wish: Open, opened: Opened) -> Open:
    """What to open next time: the same devices by name, as indexes change, at the same rate."""

    def name(wanted: int | str | None, device: Device | None) -> int | str | None:
        return wanted if device is None or device.index is None else f"{device.name}, {device.host_api}"

    return replace(
        wish,
        source=name(wish.source, opened.source),
        sink=name(wish.sink, opened.sink) if opened.sink.index is not None else CLOCK,
        rates_hz=(opened.rate_hz,),
        must_fit=True,
    )
