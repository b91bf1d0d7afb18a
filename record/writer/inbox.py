"""The writer's messages, read ahead from the pipe."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from record.protocol import messages

Received = list[messages.Message | Exception | None]
"""Messages in their order; None at the end, or the error that ended the reading."""


class Inbox:
    """Messages from the pipe, read ahead by a thread so that reading and writing overlap.

    Args:
        descriptor: The pipe's end.
        gather: Called with the descriptor before the pipe is waited for.
        depth: How many payloads may be read ahead.
    """

    def __init__(
        self, descriptor: int, gather: Callable[[int], None] | None = None, depth: int = 3
    ) -> None:
        self._messages: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(depth):
            self._free.put(bytearray())
        self._descriptor, self._gather = descriptor, gather
        self._stream = messages.MessageReader(descriptor, self._free.get)
        threading.Thread(target=self._read, daemon=True).start()

    def get(self, timeout: float) -> Received:
        """Returns the next messages.

        Args:
            timeout: Seconds to wait for them.

        Raises:
            queue.Empty: Nothing came in that time.
        """
        return self._messages.get(timeout=timeout)

    def give_back(self, message: messages.Message) -> None:
        """Lets the message's buffer be used again."""
        if message.buffer is not None:
            self._free.put(message.buffer)

    def _read(self) -> None:
        """Reads to the end of the pipe; runs in the thread."""
        together: Received = []
        while True:
            message: messages.Message | Exception | None
            try:
                if self._gather is not None and not self._stream.waiting:
                    self._gather(self._descriptor)
                message = self._stream.next()
            except Exception as error:  # raised again where the message is taken
                message = error
            together.append(message)
            # A message with a payload may not wait for others: there are few buffers.
            if not isinstance(message, messages.Message):
                self._messages.put(together)
                return
            if message.buffer is not None or not self._stream.waiting:
                self._messages.put(together)
                together = []
