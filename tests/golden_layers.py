"""What the golden data says of the layers of a state_dict, in the words Backline reads."""

from __future__ import annotations

from typing import Any


def layers_of_case(case: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The case's own list; for the model in several files with the topology its note tells.

    "y = prelu(bn(conv1(x))) + res(x)": the last layer of the list reads the input, and a sum follows.
    """
    layers = case.get("layers")
    if layers is None or case["format"] != "torch_state_dict_multi":
        return layers
    *chain, beside = (dict(layer) for layer in layers)
    chain[-1]["name"] = "chain"
    return [*chain, beside | {"input": "input", "name": "res"}, {"type": "add", "inputs": ["chain", "res"]}]
