"""Frames to bytes: the only room that knows a codec."""
