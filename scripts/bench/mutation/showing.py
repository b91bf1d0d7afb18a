"""Mutations of pictures: what is drawn is what was recorded, and says what it is not."""

from __future__ import annotations

from mutation import Mutation

ANIMATION = "tests/replay/rendering/test_animation.py::"
FLASHES = "tests/replay/rendering/test_flashes.py::"
PACKING = "tests/replay/files/test_packing.py::"

MUTATIONS = (
    Mutation(
        "level-off-by-one",
        "Every pixel has the colour of its value.",
        "replay/maps/scaling.py",
        "        levels = np.clip(np.rint(place), 0, count - 1)\n",
        "        levels = np.clip(np.floor(place), 0, count - 1)\n",
        "tests/replay/maps/test_scaling.py::test_the_table_is_the_formula_for_every_float16",
    ),
    Mutation(
        "nan-drawn-as-a-value",
        "NaN is never drawn as a value.",
        "replay/maps/scaling.py",
        "    levels[np.isnan(values)] = count\n",
        "    levels[np.isnan(values)] = 0\n",
        "tests/replay/maps/test_scaling.py::test_the_table_is_the_formula_for_every_float16",
    ),
    Mutation(
        "damaged-row-drawn",
        "A figure never draws a damaged frame.",
        "replay/figures/batch.py",
        "        raise DamagedError(row.maps.damaged[cell])\n",
        "        pass\n",
        "tests/replay/figures/test_damaged_frames.py::test_one_is_left_out",
    ),
    Mutation(
        "tiles-in-another-place",
        "Each map stands above its own number.",
        "replay/raster/mosaic.py",
        "        row, column = divmod(place, self.columns)\n",
        "        row, column = divmod((place + 1) % self.count, self.columns)\n",
        ANIMATION + "test_every_pixel_of_every_map_is_exact",
    ),
    Mutation(
        "flashes-not-counted",
        "What flashes more than three times a second is said to, or shown more slowly.",
        "replay/rendering/accessibility.py",
        "_MAX_CHANGES = 6  # in a second: three flashes\n",
        "_MAX_CHANGES = 60\n",
        FLASHES + "test_maps_that_flash_are_warned_of",
    ),
    Mutation(
        "eight-bits-cut-off",
        "A value in 8 bits is the nearest of 256 steps.",
        "replay/recording/eight_bits.py",
        "        values += 0.5  # which makes the nearest step of what is cut off next\n",
        "",
        PACKING + "test_eight_bits_are_within_the_error_that_the_file_states",
    ),
    Mutation(
        "damage-packed-as-data",
        "What is damaged stays so when it is packed.",
        "replay/files/frame_copy.py",
        "            damaged = not self._restores and checksum != known\n",
        "            damaged = False\n",
        PACKING + "test_damage_stays_damage",
    ),
    Mutation(
        "export-overwrites-unasked",
        "An export takes no file's place unasked.",
        "replay/files/exporting.py",
        "    if path.exists() and not overwrite:\n",
        "    if False:\n",
        "tests/replay/files/test_exporting.py::test_nothing_is_overwritten_unasked",
    ),
    Mutation(
        "exponent-not-applied",
        "Gradients are shown and given out in their true values.",
        "replay/recording/scaled.py",
        "        return scale(self.stored[cell], self.exponent(cell))\n",
        "        return scale(self.stored[cell], 0)\n",
        "tests/replay/recording/test_beside_maps.py::test_gradients_have_their_true_values",
    ),
    Mutation(
        "absurd-exponent-believed",
        "An exponent that cannot be is damage.",
        "replay/recording/scaled.py",
        "        if abs(found) > LARGEST_EXPONENT:\n",
        "        if False:\n",
        "tests/replay/recording/test_beside_maps.py::test_an_absurd_exponent_is_one_line",
    ),
    Mutation(
        "lost-connection-is-damage",
        "A lost connection is never taken for damage.",
        "replay/schema/errors.py",
        "class UnreachableError(RecordingError):",
        "class UnreachableError(FileError):",
        "tests/replay/recording/test_addresses.py"
        "::test_a_lost_connection_is_said_once_and_is_no_damage",
    ),
    Mutation(
        "connection-tried-once",
        "A lost connection is tried again.",
        "replay/recording/remote_file.py",
        "pauses = [] if self._patient else list(PAUSES)",
        "pauses = list[float]()",
        "tests/replay/recording/test_promises.py::test_a_lost_connection_is_tried_again_thrice",
    ),
)
