"""Audio files through a model, to audio files.

::

    file -> channels -> resample to the model's rate -> engine -> drop the latency -> resample
         -> tail -> mix, gain -> normalise -> dither -> file

`options.py` says what can be asked for, `stages.py` what happens to a stream of blocks, `threads.py` how a
model uses several cores, `take.py` puts them together for one file, `files.py` does several, `pipes.py` is
standard input and output."""

from .files import RenderFailure, plan_targets, render_files
from .options import RenderOptions
from .take import RenderReport, render_file

__all__ = ["RenderFailure", "RenderOptions", "RenderReport", "plan_targets", "render_file", "render_files"]
