"""Mutations of what is made of recordings: verify, repair, pack, and every result in a file."""

from __future__ import annotations

from mutation import Mutation

VERIFYING = "replay/files/verification.py"
REPAIRING = "replay/files/repairing.py"
IN_PLACE = "replay/files/in_place.py"
OUTPUT = "replay/output.py"
VERIFICATION = "tests/replay/files/test_verification.py::"
DAMAGE = VERIFICATION + "test_every_kind_of_damage_is_named_and_repaired"
PLACE = "tests/replay/files/test_in_place.py::"
REPLACING = "tests/replay/test_replacing.py::"

MUTATIONS = (
    Mutation(
        "damage-not-reported",
        "What is damaged is reported by verify.",
        VERIFYING,
        "            report.problems.append(Problem.told(error, what, self.name, epoch, batch))\n"
        "            return None\n",
        "            return None\n",
        DAMAGE,
    ),
    Mutation(
        "ranges-not-verified",
        "Ranges that are not those of the maps are reported by verify.",
        VERIFYING,
        "            if wrong.any():\n",
        "            if False:\n",
        VERIFICATION + "test_ranges_of_an_older_recording_are_held_against_its_maps",
    ),
    Mutation(
        "counts-not-verified",
        "Counts of values that are not finite are verified.",
        VERIFYING,
        "            if kept is not None and int(kept[epoch, batch]) != found:\n",
        "            if False:\n",
        VERIFICATION + "test_wrong_counters",
    ),
    Mutation(
        "numbers-not-verified",
        "The frames are numbered as the counter says, each once.",
        VERIFYING,
        "    if run.committed != len(numbers) or"
        " (numbers != np.arange(1, len(numbers) + 1)).any():\n",
        "    if False:\n",
        VERIFICATION + "test_wrong_counters",
    ),
    Mutation(
        "repair-loses-the-last-frame",
        "A repaired recording has every frame that is whole.",
        REPAIRING,
        "        for place, (epoch, batch) in enumerate(frames):\n",
        "        for place, (epoch, batch) in enumerate(frames[:-1]):\n",
        DAMAGE,
    ),
    Mutation(
        "repair-keeps-damage",
        "What is damaged is not in a repaired recording, and is counted.",
        REPAIRING,
        "run.lost + len(left_out), 1])",
        "run.lost, 1])",
        DAMAGE,
    ),
    Mutation(
        "repair-replaces-the-recording",
        "A recording is never written to by what reads it.",
        "replay/files/copy_target.py",
        "    if target.samefile(source):\n",
        "    if False:\n",
        VERIFICATION + "test_what_cannot_be_repaired",
    ),
    Mutation(
        "repair-overwrites-unasked",
        "A repaired recording takes no file's place unasked.",
        "replay/files/copy_target.py",
        "    if not overwrite:\n",
        "    if False:\n",
        VERIFICATION + "test_what_cannot_be_repaired",
    ),
    Mutation(
        "packed-unverified",
        "A packed recording takes the place of a whole one only if it verifies.",
        IN_PLACE,
        "        if not sound or result.ratio < 1 or _trace(path) != before:\n",
        "        if result.ratio < 1 or _trace(path) != before:\n",
        PLACE + "test_what_does_not_verify_takes_nothings_place",
    ),
    Mutation(
        "packed-over-changes",
        "A recording that somebody has changed meanwhile is not replaced by its packed copy.",
        IN_PLACE,
        "        if not sound or result.ratio < 1 or _trace(path) != before:\n",
        "        if not sound or result.ratio < 1:\n",
        PLACE + "test_a_recording_that_was_changed_meanwhile_stays",
    ),
    Mutation(
        "packed-while-written",
        "A recording that is still written is not packed in its place.",
        IN_PLACE,
        "        if not run.closed or not run.frames:\n",
        "        if not run.frames:\n",
        PLACE + "test_a_recording_that_is_still_written_stays",
    ),
    Mutation(
        "packing-leaves-a-file",
        "A packing in place that fails leaves nothing behind.",
        IN_PLACE,
        "        small.unlink(missing_ok=True)\n",
        "        pass\n",
        PLACE + "test_what_does_not_verify_takes_nothings_place",
    ),
    Mutation(
        "result-in-place",
        "What stood where a result goes stays until the result is whole.",
        OUTPUT,
        "        yield unfinished\n",
        "        os.replace(unfinished, path)\n        unfinished = path\n        yield path\n",
        REPLACING + "test_what_fails_leaves_all_as_it_was",
    ),
    Mutation(
        "half-a-result-left",
        "Nothing half-written is left behind.",
        OUTPUT,
        "            with suppress(OSError):\n                unfinished.unlink()\n",
        "            pass\n",
        REPLACING + "test_what_fails_leaves_all_as_it_was",
    ),
    Mutation(
        "size-limit-off",
        "A film is no larger than was asked for.",
        OUTPUT,
        "        if self.limit is not None and (size := size_of(self.path)) > self.limit:\n",
        "        if False:\n",
        REPLACING + "test_what_grows_too_large_is_given_up_and_replaces_nothing",
    ),
    Mutation(
        "users-picture-replaced",
        "No file of the user's is replaced unasked.",
        "replay/overwriting.py",
        "        if not overwrite and not is_ours(path):\n",
        "        if False:\n",
        "tests/replay/test_overwriting.py::test_only_what_mapreel_made_is_replaced",
    ),
    Mutation(
        "recording-is-the-target",
        "The recording is never the target of a film.",
        "replay/rendering/animation.py",
        "    if target.path.exists() and any(",
        "    if False and any(",
        "tests/replay/rendering/test_animation.py::test_the_recording_is_never_the_target",
    ),
    Mutation(
        "copied-epochs-shift",
        "A copy has the numbers of each epoch at that epoch.",
        "replay/files/tree_copy.py",
        "        new = new[first : first + len(values), : values.shape[1]]\n",
        "        new = new[: len(values), : values.shape[1]]\n",
        "tests/record/writer/test_short_epochs.py::test_copies_have_the_same_numbers",
    ),
)
