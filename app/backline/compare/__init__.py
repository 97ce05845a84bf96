"""Two takes, compared: what is left between them, how different they sound, and how they lie to one another.

::

    files -> parts -> one rate, as many channels -> pass 1: figures of both as they are
                                                 -> passes 2 to 4: the delay (alignment.py)
                                                 -> pass 5: figures with the delay taken away

All in blocks, so that memory does not grow with the files but by ten numbers per second for the loudness;
files are read once per pass. The first take is the reference.

`takes.py` is where blocks come from, `measuring.py` the passes, `null_meter.py`, `stft_distance.py` and
`profiles.py` what is measured in them, `picture.py` the picture.
"""

from .measuring import Aligned, Comparison, Level, compare, compare_arrays, compare_takes
from .null_meter import Null, NullMeter, null

__all__ = [
    "Aligned",
    "Comparison",
    "Level",
    "Null",
    "NullMeter",
    "compare",
    "compare_arrays",
    "compare_takes",
    "null",
]
