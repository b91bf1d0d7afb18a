"""Records a script that nobody changed: `python -m record run script.py`.

Import by module, since a name here would cost the start-up of `record run`: `record.launch.script`
(`launch`, what the command line calls) and `record.launch.arguments` (its options) need no torch;
all other modules are imported once the script has imported torch.
"""
