"""The built-in training run."""
