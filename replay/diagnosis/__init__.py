"""Finds what goes wrong with channels while a network trains."""
