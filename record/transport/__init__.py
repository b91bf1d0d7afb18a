"""Carries frames out of the training process: a bounded queue, a thread, a pipe, the writer.

May be imported from here: `Courier`, which starts the writer; its `FrameChannel`, which hands out
a `Buffer` and sends it as a `QueuedFrame`; and `MakeBuffer`, what makes the buffers. Nothing here
needs torch.
"""

from record.transport.buffer_pool import Buffer, MakeBuffer
from record.transport.courier import Courier
from record.transport.frame_channel import FrameChannel, QueuedFrame

__all__ = ["Buffer", "Courier", "FrameChannel", "MakeBuffer", "QueuedFrame"]
