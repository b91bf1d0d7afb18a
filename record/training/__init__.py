"""The built-in training run: `python -m record train`, and `plan` without training.

Import by module, since torch and torchvision would cost the start-up of the command line:
`record.training.settings` (`Settings`, what a run is asked for; needs no torch),
`record.training.setup` (`prepare`, `plan`), `record.training.loop` (`train`) and
`record.training.console` (`Console`, what the command says).
"""
