"""Which frames and channels are shown, and on which scale: from frames to maps."""
