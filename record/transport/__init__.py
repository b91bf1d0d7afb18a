"""Carries frames out of the training process: a bounded queue, a thread, a pipe, the writer.

May be imported from here: `Courier`, which starts the writer and carries frames to it, and
`QueuedFrame`, a frame on its way. Nothing here needs torch.
"""

from record.transport.courier import Courier
from record.transport.frame_channel import Buffer, MakeBuffer, QueuedFrame

__all__ = ["Buffer", "Courier", "MakeBuffer", "QueuedFrame"]
