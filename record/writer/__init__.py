"""The process that owns the file. Imports no torch."""
