"""Opens a recording safely and hands out lazy arrays by layer, epoch and batch."""

from replay.recording.recording import Recording, open_recording

__all__ = ["Recording", "open_recording"]
