"""What the training and the writer process say to each other; nothing here needs torch.

`BatchLayout` says where the parts of a batch lie in its flat float16 buffer, `messages` has what
goes through the pipe, `SharedFrames` and `SharedFramesReader` are the two ends of the memory in
which frames lie.
"""

from record.protocol import messages
from record.protocol.layout import BatchLayout, Slot
from record.protocol.shared_memory import SharedFrames, SharedFramesReader

__all__ = ["BatchLayout", "SharedFrames", "SharedFramesReader", "Slot", "messages"]
