"""Copies what a model's layers put out for the first image of a batch, as float16.

`Capture` is all hooks of one recording; its `state`, a `CaptureState`, says how far the recording
of a batch has come, and tells a `CaptureListener` of forwards; its `frames` are what was captured.
`HostBuffer` and `DeviceBuffers` are where that lies, and `Probe` shows a model fixed images.
`record.capture.phase` has the phases of a recording, such as WAITING, and `record.capture.tensors`
finds tensors in what a model is given.
"""

from record.capture.buffers import DeviceBuffers, HostBuffer
from record.capture.capture import Capture
from record.capture.captured_frames import CapturedFrames
from record.capture.phase import CaptureListener, CaptureState
from record.capture.probe import Probe

__all__ = [
    "Capture",
    "CaptureListener",
    "CaptureState",
    "CapturedFrames",
    "DeviceBuffers",
    "HostBuffer",
    "Probe",
]
