"""Audio files through a model, to audio files.

::

    file -> channels -> resample to the model's rate -> engine -> drop the latency -> resample
         -> tail -> mix, gain -> normalise -> dither -> file

`options.py` says what can be asked for, `stages.py` what happens to a stream of blocks, `threads.py` how a
model uses several cores, `take.py` puts them together for one file, `targets.py` names what files
become, `pipes.py` is standard input and output. Many files and many models are for `backline.batch`."""

from .options import RenderOptions
from .report import RenderReport
from .take import render_file
from .targets import folders, plan_targets

__all__ = ["RenderOptions", "RenderReport", "folders", "plan_targets", "render_file"]
