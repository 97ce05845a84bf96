"""shim"""

from typing import Any


class L:
    mean = 0.05


def measure(*a: Any) -> Any:
    return L
