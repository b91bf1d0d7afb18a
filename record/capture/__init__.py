"""Hooks that copy what layers put out."""
