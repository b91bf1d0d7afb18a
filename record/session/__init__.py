"""From one batch of a training to the next.

`Progress` has the hooks record each batch that is to be recorded, `FrameSender` gives them buffers
and sends these off as `SealedFrames`, `ModelChecks` looks after replaced layers, silent ones and
fixed images. `root_attributes` and `rank_and_world` say what the file's root tells of the run.
"""

from record.session.frame_sender import FrameSender, SealedFrames
from record.session.metadata import rank_and_world, root_attributes
from record.session.model_checks import ModelChecks
from record.session.progress import Progress

__all__ = [
    "FrameSender",
    "ModelChecks",
    "Progress",
    "SealedFrames",
    "rank_and_world",
    "root_attributes",
]
