"""Verifies, repairs and exports recordings."""
