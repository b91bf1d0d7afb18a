"""The command line of replay.

To be imported by their modules:

- `parser`: all commands as one parser, and what it makes of words;
- `films`, `figures`, `pages` and `files`: the commands, each beside its options;
- `options`: options made from their declarations in `replay.options`;
- `console`: messages and progress on stderr, results on stdout.

A command imports what it needs when it runs, so that `--help` and `info` answer at once.
"""
