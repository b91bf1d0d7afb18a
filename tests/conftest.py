"""Makes `samples` importable from every folder of tests, and torch say the same on any Python."""

import os

# What torch.compile says of Python 3.13.0: of each model, so twice where one is compiled anew.
os.environ["PYTHONWARNINGS"] = "ignore:Guards may run slower:RuntimeWarning"
