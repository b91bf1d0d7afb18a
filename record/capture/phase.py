"""Where a recording stands within a batch.

IDLE: nothing is recorded. WAITING: the batch's forward has yet to come. INSIDE: it runs. BROKEN:
it ended in an exception. DONE: it has been recorded. OPEN: parts of the model are called directly,
so that nobody can say when its forward ends. PROBING: the model sees a fixed image.
"""

IDLE, WAITING, INSIDE, OPEN, DONE, PROBING, BROKEN = range(7)
