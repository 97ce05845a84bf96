"""What torch.export makes of a module: ops in order, constants, inputs, outputs. Sole importer of torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependency, ModelError

#: What an export's refusal is cut to.
_REASON_CHARS = 240
#: Where a module keeps what the export itself hands back as inputs and outputs.
_REGISTERED = ("_parameters", "_buffers")


@dataclass(frozen=True)
class Input:
    """A tensor the module is called with, or a buffer it keeps from call to call.

    Attributes
    ----------
    node : str
        Name of the placeholder in the graph.
    name : str
        What the module calls it.
    shape : tuple of int
    is_buffer : bool
    begins_silent : bool
        Whether a buffer holds zeros now.
    """

    node: str
    name: str
    shape: tuple[int, ...]
    is_buffer: bool = False
    begins_silent: bool = True


@dataclass(frozen=True)
class Exported:
    """A module as a list of ATen ops without side effects.

    Attributes
    ----------
    nodes : tuple
        ``torch.fx`` nodes of the ops, in running order.
    constants : mapping
        Tensors by name of their placeholder: floats in float64, all on the CPU.
    inputs : tuple of Input
        As the module's forward takes them, then buffers that it changes.
    outputs : tuple of (name, node, input)
        What the module returns, and next values of what it changes: then `input` is the node of that.
    notes : tuple of str
    """

    nodes: tuple[Any, ...]
    constants: Mapping[str, Any]
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[str, str, str | None], ...]
    notes: tuple[str, ...] = ()


@dataclass
class _Attributes:
    """What all modules hold besides parameters and buffers, to put it back and to see what was assigned."""

    modules: list[tuple[str, Any, dict[str, Any]]] = field(default_factory=list)
    containers: list[tuple[str, Any, Any]] = field(default_factory=list)
    #: Tensors before they were replaced, by the path of their attribute; None where there was nothing.
    assigned: dict[str, Any] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, module: Any) -> _Attributes:
        """Those of a module and all below it."""
        found = cls()
        for path, each in module.named_modules():
            found.modules.append((path, each, dict(each.__dict__)))
            for name, value in each.__dict__.items():
                found._remember(f"{path}.{name}" if path else name, value)
        return found

    def _remember(self, path: str, value: Any) -> None:
        if isinstance(value, list | dict) and id(value) not in self._seen:
            self._seen.add(id(value))
            self.containers.append((path, value, value.copy()))
            items = enumerate(value) if isinstance(value, list) else value.items()
            for key, each in items:
                self._remember(f"{path}[{key!r}]", each)

    def watch(self, *_: Any) -> None:
        """A forward hook: note which attributes hold another tensor by now."""
        import torch

        for path, module, before in self.modules:
            for name, value in module.__dict__.items():
                old = before.get(name)
                if isinstance(value, torch.Tensor) and value is not old:
                    self.assigned[f"{path}.{name}" if path else name] = old
        for path, container, copy in self.containers:
            if path.rpartition(".")[2] in _REGISTERED:
                continue
            old_items = copy if isinstance(copy, dict) else dict(enumerate(copy))
            new_items = container if isinstance(container, dict) else dict(enumerate(container))
            for key, value in new_items.items():
                if isinstance(value, torch.Tensor) and value is not old_items.get(key):
                    self.assigned[f"{path}[{key!r}]"] = old_items.get(key)

    def restore(self) -> None:
        """Put everything back, the very objects."""
        for _, module, before in self.modules:
            module.__dict__.clear()
            module.__dict__.update(before)
        for _, container, copy in self.containers:
            if isinstance(container, dict):
                container.clear()
                container.update(copy)
            else:
                container[:] = copy


def export(module: Any, example: Any) -> Exported:
    """Trace a module in evaluation mode, leaving it as it is.

    Parameters
    ----------
    module : torch.nn.Module
    example : tensor or tuple of tensors
        What its forward takes.

    Raises
    ------
    MissingDependency
        PyTorch is not installed.
    ModelError
        There is no module, no example, or none that can be traced; one sentence.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingDependency(
            "from_torch needs PyTorch, which is not installed: pip install 'backline[torch]'"
        ) from error
    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise ModelError(f"expected a torch.nn.Module, found {type(module).__name__}")
    module = getattr(module, "_orig_mod", module)  # of torch.compile
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if torch.nn.parameter.is_lazy(tensor):
            raise ModelError(f"{name}: has no values yet; run the module once before")
        if tensor.is_meta:
            raise ModelError(f"{name}: has no values, it is on the meta device")
    arguments = _arguments(module, example)
    attributes = _Attributes.of(module)
    program = _traced(module, arguments, attributes)
    notes = _notes_on_attributes(attributes, program)
    return _exported(program, notes)


def _arguments(module: Any, example: Any) -> tuple[Any, ...]:
    """The example as positional arguments: detached, in the module's own precision."""
    import torch

    arguments = tuple(example) if isinstance(example, tuple | list) else (example,)
    kinds = {p.dtype for p in [*module.parameters(), *module.buffers()] if p.is_floating_point()}

    def fitted(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.as_tensor(np.array(value))
        if isinstance(value, torch.Tensor):
            value = value.detach()
            if value.is_floating_point() and len(kinds) == 1:
                value = value.to(next(iter(kinds)))
        elif not isinstance(value, bool | int | float | str | type(None)):
            raise ModelError(f"the example holds a {type(value).__name__}, expected tensors")
        return value

    mapped = torch.utils._pytree.tree_map(fitted, arguments)
    if not any(isinstance(value, torch.Tensor) for value in torch.utils._pytree.tree_leaves(mapped)):
        raise ModelError(f"expected an example tensor or a tuple of them, found {type(example).__name__}")
    return tuple(mapped)


def _traced(module: Any, arguments: tuple[Any, ...], attributes: _Attributes) -> Any:
    import torch

    if attributes.modules[0][1] is not module:
        raise ModelError("the module names itself in another way than PyTorch's")
    try:
        with _quietly(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            for _, each, _ in attributes.modules:
                each.training = False
            hook = module.register_forward_hook(attributes.watch)
            try:
                program = torch.export.export(module, arguments, strict=False)
            finally:
                hook.remove()
            # Without in-place ops and views that share memory: what is changed comes out as an output.
            return program.run_decompositions({})
    except Exception as error:
        raise ModelError(f"PyTorch cannot export it: {_reason(error)}") from error
    finally:
        attributes.restore()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch logs, warns of and prints on the way to an error that says it all."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _reason(error: Exception) -> str:
    """The first line of an error, without what torch tells its own developers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0].partition(" (unhinted")[0] if lines else type(error).__name__
    if "data-dependent" in first:
        first = f"what it does depends on the values it is given ({first[0].lower()}{first[1:]})"
    return first if len(first) <= _REASON_CHARS else f"{first[:_REASON_CHARS]}..."


def _notes_on_attributes(attributes: _Attributes, program: Any) -> list[str]:
    """Notes on attributes that the module sets as it runs.

    Raises
    ------
    ModelError
        It also reads one: a state that only a buffer keeps.
    """
    import torch

    notes = []
    for path, old in attributes.assigned.items():
        if old is None:
            notes.append(f"the module sets its attribute {path} as it runs, which is not kept")
        if not isinstance(old, torch.Tensor) or isinstance(old, torch.nn.Parameter):
            continue
        if any(old is c or _same(old, c) for c in program.constants.values()):
            raise ModelError(
                f"keeps state in its attribute {path}; make it a buffer with register_buffer, "
                "or an input and an output"
            )
    return notes


def _same(a: Any, b: Any) -> bool:
    import torch

    same_kind = isinstance(b, torch.Tensor) and a.shape == b.shape and a.dtype == b.dtype
    return bool(same_kind and torch.equal(a, b))


def _exported(program: Any, notes: list[str]) -> Exported:
    import torch

    signature = program.graph_signature
    nodes = {node.name: node for node in program.graph.nodes}
    changed = {spec.target for spec in signature.output_specs if spec.kind.name.endswith("MUTATION")}
    constants: dict[str, Any] = {}
    inputs: list[Input] = []
    buffers: list[Input] = []
    by_target: dict[str, str] = {}
    is_wide = False
    for spec in signature.input_specs:
        node = str(getattr(spec.arg, "name", ""))
        if spec.kind.name == "USER_INPUT":
            if node in nodes and "val" in nodes[node].meta and hasattr(nodes[node].meta["val"], "shape"):
                inputs.append(Input(node, node, tuple(nodes[node].meta["val"].shape)))
                by_target[node] = node
            continue
        value = _value_of(program, spec)
        if spec.kind.name == "PARAMETER" and value.dtype == torch.float64:
            is_wide |= not torch.equal(value.float().double(), value)
        if spec.target in changed:
            silent = not bool(value.any())
            buffers.append(Input(spec.arg.name, spec.target, tuple(value.shape), True, silent))
            by_target[spec.target] = spec.arg.name
        else:
            constants[spec.arg.name] = lifted(value)
    outputs: list[tuple[str, str, str | None]] = []
    for spec in signature.output_specs:
        node = str(getattr(spec.arg, "name", ""))
        if node in nodes:
            of = by_target.get(spec.target) if spec.kind.name.endswith("MUTATION") else None
            name = str(spec.target) if of else f"{len([o for o in outputs if o[2] is None])}"
            outputs.append((name, node, of))
    if is_wide:
        notes = [*notes, "parameters in double precision are rounded to float32"]
    ops = tuple(node for node in program.graph.nodes if node.op not in ("placeholder", "output"))
    return Exported(ops, constants, (*inputs, *buffers), tuple(outputs), tuple(notes))


def _value_of(program: Any, spec: Any) -> Any:
    for store in (program.state_dict, program.constants):
        if spec.target in store:
            return store[spec.target]
    raise ModelError(f"{spec.target}: has no values in what PyTorch exports")


def lifted(value: Any) -> Any:
    """A tensor to compute with: off any graph and device, floats in float64."""
    if not is_tensor(value):
        return value
    value = value.detach().cpu()
    return value.double() if value.is_floating_point() else value


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of torch."""
    import torch

    return isinstance(value, torch.Tensor)


def filled(shape: Iterable[int], number: float) -> Any:
    """A tensor of one number."""
    import torch

    return torch.full(tuple(shape), float(number), dtype=torch.float64)


def is_random(node: Any) -> bool:
    """Whether an op draws random numbers, at least while training."""
    import torch

    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def folded(node: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """What an op makes of constants alone: it is run.

    Raises
    ------
    ModelError
        It draws random numbers, or fails.
    """
    import torch

    if is_random(node):
        raise ModelError("draws random numbers")
    on_cpu = {key: value for key, value in options.items() if key not in ("device", "pin_memory")}
    try:
        with torch.no_grad():
            made = node.target(*arguments, **on_cpu)
    except Exception as error:
        raise ModelError(f"fails on constants: {_reason(error)}") from error
    return torch.utils._pytree.tree_map(lifted, made)


def to_numpy(tensor: Any) -> NDArray[Any]:
    """The numbers of a constant tensor."""
    return np.asarray(tensor.resolve_neg().numpy())
