"""The command ``backline``, also as ``python -m backline``."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line and return its exit status."""
    # Until it has handlers of its own, Ctrl-C just ends the process: imports leave nothing to clean up.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
