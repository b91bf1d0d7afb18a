"""Opens a recording safely and hands out lazy arrays by layer, epoch and batch.

The one room that reads HDF5. To be imported from here:

- `open_recording`, which gives a `Recording`, and its `Probe` for a fixed image;
- `Series`, the frames of a layer, and `Inputs`, the images;
- `read_losses`, the loss of some frames, and `read_logged`, also for which there is one;
- `Closing`, a base of everything that a `with` block closes.

`replay.recording.info` describes a recording in words; it is imported by its path.
"""

from replay.recording.batch_fields import Logged, read_logged
from replay.recording.inputs import Inputs
from replay.recording.live_file import Closing
from replay.recording.recording import Probe, Recording, open_recording
from replay.recording.series import Series
from replay.recording.small_values import read_losses

__all__ = [
    "Closing",
    "Inputs",
    "Logged",
    "Probe",
    "Recording",
    "Series",
    "open_recording",
    "read_logged",
    "read_losses",
]
