"""Carries frames to the writer process: a queue, a thread, a pipe."""
