"""Records arrays that somebody else has made: numpy, JAX, TensorFlow. Imports no torch.

`record.Writer` is the lower half of `Recorder`: the same writer process, the same file.
"""
