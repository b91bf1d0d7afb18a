"""Pushes a recording into an experiment tracker: the film, the sheet, the page, and the numbers.

- `pushing`: `replay.push`, from its arguments to what was pushed, also while a training goes on;
- `content`: makes the pictures of a recording; `scalars`: reads its numbers;
- `interface`: what a tracker is; `tensorboard`, `wandb`, `mlflow`, `aim`, `trackio` and `folder`
  are one each, in a file of its own, and `registry` finds them by name;
- `handing_over`: takes what a folder holds to a run that is active in this process.

A tracker's package is imported when it is pushed to, and nowhere else.
"""
