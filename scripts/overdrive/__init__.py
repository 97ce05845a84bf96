"""What the steps of making the shipped overdrive agree on, whichever module they are in.

`circuit` solves the pedal, `material` makes the audio it is solved for, `network` learns from the two,
`files` writes the outcome down. `scripts/train_models.py` runs them in that order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 48000

Signal = NDArray[np.float64]
