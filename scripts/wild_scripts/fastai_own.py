"""fastai with its own Adam, fit_one_cycle.

packages: fastai
"""

from fastai_common import learn_and_save

learn_and_save()
