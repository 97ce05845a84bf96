"""Audio files through a model, to audio files.

::

    file -> channels -> resample to the model's rate -> engine -> drop the latency -> resample -> tail ->
    mix, gain
         -> normalise -> dither -> file

`options.py` says what can be asked for, `stages.py` what happens to a stream of blocks, `threads.py` how a
model uses several cores, `take.py` puts them together for one file, `pipes.py` is standard input and
output."""

from .options import RenderOptions
from .take import RenderFailure, RenderReport, plan_targets, render_file, render_files

__all__ = ["RenderFailure", "RenderOptions", "RenderReport", "plan_targets", "render_file", "render_files"]
