"""Composition: recordings to frames."""
