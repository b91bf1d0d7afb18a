"""Mutations of the reader: checksums, what counts as there, hostile files, secrets."""

from __future__ import annotations

from mutation import Mutation

SAFE = "replay/recording/safe_file.py"
LIVE = "replay/recording/live_file.py"
OBJECTS = "replay/recording/objects.py"
SNAPSHOT = "replay/recording/snapshot.py"
SERIES = "replay/recording/series.py"
STRUCTURES = "replay/recording/structures.py"
FUZZED = "tests/fuzz/test_fuzzed_files.py::"
LITTLE = "tests/replay/recording/test_little_files.py::"
LAST_WORDS = "tests/replay/recording/test_last_words.py::"
VERIFICATION = "tests/replay/files/test_verification.py::"
DAMAGE = VERIFICATION + "test_every_kind_of_damage_is_named_and_repaired"
RECORDING = "tests/replay/recording/test_recording.py::"
VALUES = "tests/replay/files/test_value_checksums.py::"
HOSTILE = "tests/replay/recording/test_hostile_files.py::"
ADDRESSES = "tests/replay/recording/test_addresses.py::"
SECRETS = "tests/replay/recording/test_secrets.py::test_what_is_shown_of_a_text"
PROMISES = "tests/replay/recording/test_promises.py::"

EXCHANGED = "tests/replay/recording/test_exchanged.py::"

MUTATIONS = (
    Mutation(
        "checksum-not-compared",
        "A frame whose bytes are not those that were written is never shown as data.",
        SNAPSHOT,
        "            if checksum:\n                self.compare(",
        "            if False:\n                self.compare(",
        VERIFICATION + "test_damaged_frames_raise_and_are_marked_in_a_film",
    ),
    Mutation(
        "image-checksum-not-compared",
        "An image whose bytes are not those that were written is never shown as data.",
        "replay/recording/inputs.py",
        "        if checksum:\n            self._snapshot.compare(",
        "        if False:\n            self._snapshot.compare(",
        DAMAGE,
    ),
    Mutation(
        "value-checksum-not-compared",
        "A value beside a frame that is damaged is named, and never shown.",
        "replay/recording/small_values.py",
        "    damaged[at] = found != expected[at]\n",
        "    damaged[at] = False\n",
        VALUES + "test_a_flipped_bit_is_named_and_not_shown",
    ),
    Mutation(
        "lost-checksums-believed",
        "A value that was lost with its checksum is not shown.",
        "replay/recording/small_values.py",
        "    vouched: Mask = (sums > 0) | (order >= first)\n",
        "    vouched: Mask = sums > 0\n",
        VALUES + "test_values_that_are_lost_with_their_checksums_are_not_shown",
    ),
    Mutation(
        "lost-ranges-believed",
        "Ranges that were lost with their checksum scale no picture.",
        "replay/recording/small_values.py",
        "        damaged[:high, :wide] |= vouched[:high, :wide] & (expected[:high, :wide] == 0)\n",
        "        pass\n",
        VALUES + "test_ranges_that_are_lost_with_their_checksums_are_those_of_the_frames",
    ),
    Mutation(
        "lost-exponents-believed",
        "A gradient whose exponent was lost with its checksum is not shown.",
        "replay/recording/scaled.py",
        "read_checked(snapshot.file, path, np.int64, self.stored.vouched)\n",
        "read_checked(snapshot.file, path, np.int64)\n",
        VALUES + "test_an_exponent_that_is_lost_with_its_checksum_is_none",
    ),
    Mutation(
        "counter-checksum-not-compared",
        "A damaged counter is found out.",
        "replay/schema/format.py",
        "    return len(state) < size or np.array_equal(state[:size], encode_state(state))\n",
        "    return True\n",
        "tests/record/writer/test_value_checksums.py"
        "::test_repair_and_resume_with_a_damaged_counter_and_number",
    ),
    Mutation(
        "damaged-range-scales",
        "A damaged range scales no picture.",
        "replay/recording/small_values.py",
        "            ranges[row, column] = self._known[cell]\n",
        "            pass\n",
        VALUES + "test_a_flipped_bit_is_named_and_not_shown",
    ),
    Mutation(
        "structures-not-looked-at",
        "What no checksum vouches for is looked at before HDF5 follows it.",
        LIVE,
        "        if bytes(shown[:4]) in STRUCTURES:\n",
        "        if False:\n",
        HOSTILE + "test_a_heap_of_texts_that_leads_nowhere_is_refused",
    ),
    Mutation(
        "hdf5-takes-the-command-down",
        "A command that HDF5 takes down with it, or that waits for it, ends in one line.",
        LIVE,
        "    if not faces.is_own_process:\n        yield\n",
        "    if True:\n        yield\n",
        "tests/replay/recording/test_last_words.py::test_one_line_and_nothing_left",
    ),
    Mutation(
        "frame-without-checksum",
        "What no checksum vouches for is no frame: a loss of power may leave anything there.",
        SERIES,
        "        if checksum == 0:  # nothing",
        "        if False:  # nothing",
        "tests/replay/recording/test_series.py::test_what_no_checksum_vouches_for_is_no_frame",
    ),
    Mutation(
        "shortage-is-damage",
        "A file is not damaged because memory or descriptors are lacking.",
        LIVE,
        "    if (shortage := errors.find_shortage(error)) is not None:\n",
        "    if (shortage := None) is not None:\n",
        "tests/replay/cli/test_shortages.py::"
        "test_a_frame_that_memory_is_lacking_for_is_not_damaged",
    ),
    Mutation(
        "superblock-checksum-not-compared",
        "A file whose superblock is damaged is refused.",
        LIVE,
        "if self.unfinished and not structures.is_sound(head):",
        "if False:",
        PROMISES + "test_a_flipped_bit_in_the_superblock_is_never_passed_over",
    ),
    Mutation(
        "lists-in-attributes-followed",
        "An attribute that HDF5 would crash in is refused.",
        OBJECTS,
        "    if not _is_plain(about, dtype):\n",
        "    if False:\n",
        FUZZED + "test_what_was_found_is_read_or_refused",
    ),
    Mutation(
        "texts-go-round",
        "A text that leads HDF5 round for ever is refused.",
        STRUCTURES,
        "            if not 0 < taken <= size - place:\n                return False\n",
        "            if not 0 < taken <= size - place:\n                return True\n",
        HOSTILE + "test_a_heap_of_texts_that_leads_nowhere_is_refused",
    ),
    Mutation(
        "trees-of-names-believed",
        "A tree of names that cannot be what it says is refused before HDF5 crashes in it.",
        STRUCTURES,
        "        return self._count(shape, root, count, depth, total) == total\n",
        "        return True\n",
        FUZZED + "test_what_was_found_is_read_or_refused",
    ),
    Mutation(
        "arrays-of-chunks-believed",
        "An array of chunks larger than the file is refused before HDF5 makes space for it.",
        "replay/recording/chunk_indexes.py",
        "    return found == entries and data[6] in _ENTRIES and data[7] <= _MOST_BITS and fits\n",
        "    return True\n",
        FUZZED + "test_what_was_found_is_read_or_refused",
    ),
    Mutation(
        "heaps-of-names-believed",
        "A heap of names that cannot be what it says is refused before HDF5 crashes in it.",
        STRUCTURES,
        "is_power(start) and is_power(largest)):\n            return False\n",
        "is_power(start) and is_power(largest)):\n            return True\n",
        FUZZED + "test_what_was_found_is_read_or_refused",
    ),
    Mutation(
        "shared-attributes-followed",
        "An attribute of many that says it is shared is refused before HDF5 crashes in it.",
        STRUCTURES,
        "if any(each & _SHARED for each in flags):",
        "if False:",
        FUZZED + "test_what_was_found_is_read_or_refused",
    ),
    Mutation(
        "old-gaps-believed",
        "Gaps of an old heap of names that go round take no memory.",
        STRUCTURES,
        "        return gap == _LAST_GAP\n",
        "        return True\n",
        FUZZED + "test_what_was_found_is_read_or_refused",
    ),
    Mutation(
        "names-that-are-no-texts",
        "A name that is no text is left out, and raises nothing.",
        OBJECTS,
        "    return [name for name in node if isinstance(name, str)]\n",
        "    return list(node)\n",
        FUZZED + "test_what_was_found_is_read_or_refused",
    ),
    Mutation(
        "any-number-of-names",
        "A group of a hundred thousand names of one layer is refused in a moment.",
        OBJECTS,
        "    if len(node) > most:\n",
        "    if False:\n",
        LITTLE + "test_one_line_in_a_moment",
    ),
    Mutation(
        "first-layer-as-written",
        "Of very many layers the first is that which ran first, not that which was written first.",
        "replay/recording/layer_index.py",
        "            if best is not None and not best[0]:\n",
        "            if best is not None:\n",
        "tests/replay/recording/test_many_layers.py::"
        "test_the_first_layer_is_that_which_ran_first_and_not_that_which_was_written_first",
    ),
    Mutation(
        "hdf5-waited-for",
        "A command ends where HDF5 does not come back.",
        "replay/recording/last_words.py",
        "    signal.setitimer(signal.ITIMER_PROF, _SECONDS)\n",
        "    signal.setitimer(signal.ITIMER_PROF, 0)\n",
        LAST_WORDS + "test_one_line_and_nothing_left",
    ),
    Mutation(
        "uncommitted-frames-shown",
        "A frame that is not committed is not shown.",
        SNAPSHOT,
        "        whole = (order > 0) & (order <= self.committed)\n",
        "        whole = order > 0\n",
        RECORDING + "test_only_committed_frames_count",
    ),
    Mutation(
        "counter-read-last",
        "The counter is read before what it vouches for.",
        SNAPSHOT,
        """\
            state = read_state(file)
            self._number = file.number
            order = file.read_numbers(path, 2, np.int64)
""",
        """\
            order = file.read_numbers(path, 2, np.int64)
            self._number = file.number
            state = read_state(file)
""",
        PROMISES + "test_the_counter_is_read_before_what_it_vouches_for",
    ),
    Mutation(
        "absent-frame-shown",
        "Where a layer put out nothing there is no frame.",
        SERIES,
        "                self._present &= sums > 0\n",
        "                pass\n",
        "tests/replay/recording/test_series.py::test_where_a_layer_has_frames",
    ),
    Mutation(
        "frame-of-another-batch-read",
        "`[epoch, batch]` reads the frame of that epoch and batch.",
        SNAPSHOT,
        "            stored = self.file.read_stored(path, epoch, batch)\n",
        "            stored = self.file.read_stored(path, epoch, max(0, batch - 1))\n",
        RECORDING + "test_frames_are_those_of_the_file",
    ),
    Mutation(
        "not-tried-again",
        "A reader meets a writer at work and reads on.",
        SAFE,
        "                if final or not live.may_have_changed():\n",
        "                if True:\n",
        PROMISES + "test_what_a_writer_has_changed_meanwhile_is_read_again",
    ),
    Mutation(
        "exchanged-file-not-noticed",
        "A file that a writer exchanges while it is opened is opened again.",
        LIVE,
        "                if _trace(self.path) == self._seen or time.monotonic() > deadline:\n",
        "                if True:\n",
        RECORDING + "test_a_file_that_takes_its_place_while_it_is_opened",
    ),
    Mutation(
        "reading-locks",
        "Reading takes no lock.",
        LIVE,
        "h5py.File(view, ",
        "h5py.File(self.path if not self.unfinished else view, ",
        "tests/record/locking/test_locked_files.py"
        "::test_a_file_that_another_program_has_locked_is_read",
    ),
    # Files of strangers
    Mutation(
        "links-followed",
        "No link of a file leads to another file.",
        OBJECTS,
        "    if links.get_info(key).type != h5py.h5l.TYPE_HARD:\n",
        "    if False:\n",
        RECORDING + "test_links_are_not_followed",
    ),
    Mutation(
        "other-files-read",
        "No dataset reads from another file.",
        SAFE,
        "                if dataset.is_virtual or dataset.external:\n",
        "                if False:\n",
        RECORDING + "test_virtual_and_external_data_are_refused",
    ),
    Mutation(
        "frame-size-believed",
        "What a file declares is not allocated where the file has not as much.",
        SAFE,
        "        if size > min(_MAX_FRAME, max(FREE_BYTES, there)):\n",
        "        if False:\n",
        RECORDING + "test_declared_sizes_are_not_believed",
    ),
    Mutation(
        "all-chunks-at-once",
        "Chunks that are not there take no memory.",
        "replay/recording/plain_chunks.py",
        "    if steps is None or _count(starts, stops, steps) <= AT_ONCE:\n",
        "    if True:\n",
        LITTLE + "test_one_line_in_a_moment",
    ),
    Mutation(
        "cells-believed",
        "A file has no more batches than it can hold.",
        SAFE,
        "            if max(dataset.size, math.prod(dataset.chunks or ())) > most:\n",
        "            if False:\n",
        PROMISES + "test_no_more_cells_than_a_file_can_hold",
    ),
    Mutation(
        "text-of-any-size",
        "A text of a file is short.",
        OBJECTS,
        "    if size > _MOST:\n        raise FileError(\n",
        "    if False:\n        raise FileError(\n",
        PROMISES + "test_no_text_is_larger_than_those_of_a_recording",
    ),
    Mutation(
        "list-of-texts-read",
        "A list of texts, which may all be one large one, is refused.",
        OBJECTS,
        '    if dtype.kind == "O" and size > dtype.itemsize:\n',
        "    if False:\n",
        HOSTILE + "test_hostile_files[list_of_one_text-here]",
    ),
    Mutation(
        "all-texts-of-any-size",
        "All texts of a file together are short.",
        OBJECTS,
        "        if self._texts > _TEXTS:\n",
        "        if False:\n",
        HOSTILE + "test_hostile_files[layers_of_one_text-here]",
    ),
    Mutation(
        "all-numbers-of-any-size",
        "All fields of a file together are no larger than it can hold.",
        OBJECTS,
        "        if self._numbers > most:\n",
        "        if False:\n",
        HOSTILE + "test_hostile_files[many_fields-here]",
    ),
    Mutation(
        "groups-in-circles",
        "Groups that hold themselves are found out.",
        "replay/recording/tree.py",
        "            if address in seen or depth >= _DEEPEST or len(seen) > _MOST:\n",
        "            if len(seen) > _MOST:\n",
        PROMISES + "test_groups_in_circles_are_refused",
    ),
    Mutation(
        "chunk-expands-for-ever",
        "A chunk expands to what its shape says, and no further.",
        "replay/recording/chunk_filters.py",
        "        found: bytes = inflating.decompress(data, size + 1)\n",
        "        found: bytes = inflating.decompress(data)\n",
        PROMISES + "test_a_chunk_is_not_expanded_beyond_its_shape",
    ),
    Mutation(
        "any-number-of-chunks",
        "Hundreds of thousands of chunks of one value each are refused.",
        "replay/recording/chunks.py",
        "    if count > _MOST_CHUNKS:\n",
        "    if False:\n",
        HOSTILE + "test_hostile_files[many_chunks-here]",
    ),
    Mutation(
        "unknown-filter-tried",
        "What is compressed in a way that nothing is known of is refused.",
        "replay/recording/chunk_filters.py",
        "    if unknown:\n",
        "    if False:\n",
        HOSTILE + "test_hostile_files[unknown_filter-here]",
    ),
    Mutation(
        "nested-without-end",
        "A description that is nested without end is none.",
        "replay/schema/format.py",
        "    except (ValueError, RecursionError):  # nested without end\n",
        "    except ValueError:\n",
        PROMISES + "test_a_description_that_is_nested_without_end_is_none",
    ),
    Mutation(
        "terminal-takes-anything",
        "No name from a file moves the cursor of a terminal.",
        "replay/formatting.py",
        'without_secrets(clean(text, limit=None, mark="?"))',
        "without_secrets(text)",
        "tests/replay/recording/test_info.py::test_the_text_is_fit_for_a_terminal",
    ),
    # Addresses
    Mutation(
        "password-shown",
        "A password in an address is never shown.",
        "replay/schema/addresses.py",
        '    if "@" in text:\n',
        "    if False:\n",
        SECRETS,
    ),
    Mutation(
        "signature-shown",
        "What stands behind the `?` of an address is never shown.",
        "replay/schema/addresses.py",
        '    if "?" in text:\n',
        "    if False:\n",
        SECRETS,
    ),
    Mutation(
        "token-shown",
        "No token that a package's message has in it is shown.",
        "replay/schema/addresses.py",
        '_TOKENS.sub(rf"\\1 {HIDDEN}", text) if "B" in text else text',
        "text",
        SECRETS,
    ),
    Mutation(
        "password-in-an-error",
        "No message of another package shows what is secret in an address.",
        "replay/recording/remote_file.py",
        '    words = without_secrets((str(error).strip().splitlines() or [""])[0])\n',
        '    words = (str(error).strip().splitlines() or [""])[0]\n',
        PROMISES + "test_errors_of_other_packages_show_nothing_secret",
    ),
    Mutation(
        "command-with-its-secrets",
        "A recording keeps no secret of the command that made it.",
        "replay/schema/addresses.py",
        '        if hides and not word.startswith("-"):\n',
        "        if False:\n",
        "tests/replay/recording/test_secrets.py::test_what_is_shown_of_a_command_line",
    ),
    Mutation(
        "another-recording-refreshed",
        "A recording that has taken another's place is not taken for it.",
        "replay/recording/recording.py",
        "        if header.run_id != self.run_id:\n",
        "        if False:\n",
        EXCHANGED + "test_another_recording_in_its_place_is_not_taken_for_it",
    ),
    Mutation(
        "checksums-read-once",
        "A reader tries again where the writer was at work.",
        "replay/recording/small_values.py",
        "    return _together(file, lambda: checksums_of(file, path, shape))\n",
        "    return checksums_of(file, path, shape)\n",
        EXCHANGED + "test_values_are_read_while_the_file_grows",
    ),
    Mutation(
        "exchanged-is-damaged",
        "What a writer has exchanged is not called damaged.",
        LIVE,
        "        same = self.view.duplicate() if self._stays else None\n",
        "        same = None\n",
        EXCHANGED + "test_a_frame_of_another_file_in_its_place_is_not_called_damaged",
    ),
    Mutation(
        "exchanged-read-as-absent",
        "Nothing of a file in another's place is shown among the frames of that one.",
        SAFE,
        "                self.check_number(self._expected)\n",
        "",
        EXCHANGED + "test_nothing_of_another_file_at_an_address_is_shown_among_these_frames",
    ),
    Mutation(
        "as-many-frames-are-the-same",
        "As many frames of another file are other ones to what was held of a recording.",
        SNAPSHOT,
        "        self.edition = self.committed, self._number\n",
        "        self.edition = self.committed, 0\n",
        EXCHANGED + "test_as_many_frames_of_a_resumed_run_are_not_called_damaged",
    ),
    Mutation(
        "older-look-reads-on",
        "What was taken of a recording before it was exchanged reads nothing of the new one.",
        SNAPSHOT,
        "        self._file.check_number(self._number)\n",
        "",
        EXCHANGED + "test_what_was_taken_of_a_recording_before_is_of_its_own_frames",
    ),
)
