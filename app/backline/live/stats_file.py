"""shim"""

from typing import Any


def save(*a: Any, **k: Any) -> None: ...
