"""What users see, frozen: frames, figures, pages, texts and files, compared to the bit.

`python -m tests.golden --freeze` writes the frozen results anew, from the repository's root. Do
that only where users shall see something else, and look at what changed. Only public faces are
used here (`import replay`, `import record` and the command lines), so these tests stay valid
whatever is moved behind them.
"""
