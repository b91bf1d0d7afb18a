"""Watches torch while somebody's script trains: what happens, and which model is trained.

To be imported by their modules:

- `torch_events`: loaders, forwards, backwards and optimizer steps, told to a listener;
- `ownership` and `finder`: which modules own the parameters that an optimizer trains;
- `callbacks`: functions of ours that never disturb the script.

Nothing is exported from here.
"""
