"""Renders films to files: from a request to an animation.

To be imported by their modules:

- `animation` and `comparison`: `replay.animate`, `replay.compare`, and their `Animation`;
- `parallel` and `jobs`: frames encoded in parts side by side;
- `size_limit`, `size_estimate`, `size_ladder` and `presets`: the best animation that a size allows;
- `accessibility`: an animation in words, and flashes that may harm viewers;
- `sidecars`: a text and a picture beside an animation;
- `html`: an animation in a notebook.

Nothing is exported from here: a process that renders a part imports `jobs` alone.
"""
