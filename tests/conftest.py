"""Makes `samples` importable from every folder of tests, and torch say the same on any Python."""

import os

from hypothesis import HealthCheck, Phase, settings

# What torch.compile says of Python 3.13.0: of each model, so twice where one is compiled anew.
os.environ["PYTHONWARNINGS"] = "ignore:Guards may run slower:RuntimeWarning"

# The same examples each time; `--hypothesis-profile=long` tries thousands of others.
slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
phases = [Phase.explicit, Phase.generate, Phase.shrink]
always = settings(deadline=None, database=None, suppress_health_check=slow, phases=phases)
settings.register_profile("quick", always, max_examples=60, derandomize=True)
settings.register_profile("long", always, max_examples=3000, print_blob=True)
settings.load_profile("quick")
