"""fastai with torch's AdamW by OptimWrapper, gradients of several batches.

packages: fastai
"""

from functools import partial

import torch
from fastai.callback.training import GradientAccumulation
from fastai.optimizer import OptimWrapper
from fastai_common import learn_and_save

learn_and_save([GradientAccumulation(8)], opt_func=partial(OptimWrapper, opt=torch.optim.AdamW))
