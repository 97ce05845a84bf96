"""shim"""

from typing import Any


def run_screen(*a: Any, **k: Any) -> None: ...
