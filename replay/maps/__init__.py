"""Says which frames and channels are shown, and on which scale: from recorded frames to maps.

Takes recordings and arrays, and gives arrays. To be imported by their modules:

- `selection`: epochs, batches, layers and channels by number, slice or name;
- `runs`: one recording or several as a `RunSet`, whose layers are rows, and what is told of them;
- `axes`: `Maps`, a layer's frames as (C, S, H, W), whatever its axes are;
- `scaling`: values to levels of a colormap, under one explicit range, and the input picture;
- `difference`: of two runs, or of a frame and an earlier one;
- `channel_order`: similar channels side by side;
- `kernels`: the kernels behind the maps.

Nothing is exported from here: `replay export` needs three of these modules, and not Pillow.
"""
