"""Mutations of the writer: the order of its writes, the disk, its counts, copies and locks."""

from __future__ import annotations

from mutation import Mutation

FILE = "record/writer/recording_file.py"
SERVICE = "record/writer/service.py"
COPIES = "record/writer/copies.py"
LOCK = "record/locking/lock.py"
HOLDERS = "replay/schema/holders.py"

ORDER = "tests/record/writer/test_write_order.py::"
COUNTER = ORDER + "test_each_counter_is_written_behind_all_that_it_counts"
SAID = ORDER + "test_what_is_said_to_be_in_the_file_is_there_after_a_kill"
DISK = ORDER + "test_the_disk_is_asked_for_what_was_flushed_and_at_the_end"
COPY_ON_DISK = ORDER + "test_a_copy_is_on_the_disk_before_it_takes_the_place_of_the_recording"
ON_DISK = "tests/record/writer/test_disk.py::"
RIGHTS = "tests/record/writer/test_rights.py::"
PROCESS = "tests/record/writer/test_process.py::"

MUTATIONS = (
    # The order of writes
    Mutation(
        "counter-before-data",
        "The counter is written behind what it counts.",
        FILE,
        "        for group in group_in_rows(self._pending):\n",
        """\
        self._datasets.write_state(self._state + [len(self._pending), 0, 0, 0])
        self._file.flush()
        for group in group_in_rows(self._pending):
""",
        COUNTER,
    ),
    Mutation(
        "no-flush-before-counter",
        "What the counter counts is in the file before the counter is.",
        FILE,
        "        self._file.flush()\n        self._state[0] += len(self._pending)\n",
        "        self._state[0] += len(self._pending)\n",
        COUNTER,
    ),
    Mutation(
        "no-flush-after-counter",
        "A frame that is said to be in the file is there, also after a kill.",
        FILE,
        """\
        self._file.flush()
        self.acknowledged += len(self._pending)
""",
        "        self.acknowledged += len(self._pending)\n",
        SAID,
    ),
    Mutation(
        "acknowledged-early",
        "No frame is acknowledged before it is committed.",
        SERVICE,
        """\
        file.commit()
        if file.must_sync:
            file.sync()
        file.check_place()
        self._answer(_counts(file))
""",
        """\
        self._answer({"committed": file._written, "acknowledged": file._written})
        file.commit()
        if file.must_sync:
            file.sync()
        file.check_place()
""",
        SAID,
    ),
    Mutation(
        "flush-does-not-commit",
        "What was sent before a flush is readable when it returns.",
        SERVICE,
        "            file.commit()\n            file.sync()\n",
        "            file.sync()\n",
        SAID,
    ),
    # The disk
    Mutation(
        "no-fsync",
        'With durability="fsync" the disk is asked for the file\'s data.',
        "record/writer/fsync.py",
        "                os.fsync(descriptor)\n",
        "                pass\n",
        DISK,
    ),
    Mutation(
        "no-fsync-after-flush",
        "The disk is asked for what a flush was for.",
        SERVICE,
        "            file.commit()\n            file.sync()\n",
        "            file.commit()\n",
        DISK,
    ),
    Mutation(
        "no-fsync-of-epoch",
        "A loss of power costs at most the epoch that goes on.",
        FILE,
        "            self.commit()\n            self.sync()\n",
        "            self.commit()\n",
        "tests/record/test_resume.py::test_the_disk_is_asked_at_each_epoch_and_now_and_then",
    ),
    Mutation(
        "no-fsync-in-long-epoch",
        "A loss of power costs at most 30 s.",
        FILE,
        "        return self._fsync is not None and self._fsync.due\n",
        "        return False\n",
        "tests/record/test_resume.py::test_the_disk_is_asked_at_each_epoch_and_now_and_then",
    ),
    Mutation(
        "fsync-forgotten-while-slow",
        "What is written while the disk is slow is asked for afterwards.",
        "record/writer/fsync.py",
        "            if not self._is_waiting:\n                self._requests.put",
        "            if not self._busy.is_set():\n                self._requests.put",
        ON_DISK + "test_what_is_asked_for_while_the_disk_is_busy_is_done_behind_it",
    ),
    Mutation(
        "closed-before-it-is-on-the-disk",
        "What was written is on the disk before the file says that it was closed.",
        FILE,
        "        try_to_sync(self._path)  # HDF5 itself never asks the system for that\n",
        "",
        ON_DISK + "test_a_copy_and_its_name_are_on_the_disk",
    ),
    Mutation(
        "no-fsync-at-close",
        "A recording that was closed is on the disk.",
        FILE,
        "        try_to_sync(self._path)  # what HDF5 wrote while it closed the file\n",
        "",
        ON_DISK + "test_a_copy_and_its_name_are_on_the_disk",
    ),
    Mutation(
        "no-fsync-of-copy",
        "A copy is on the disk before it takes the place of the recording.",
        COPIES,
        "            sync_file(copy)\n",
        "            pass\n",
        COPY_ON_DISK,
    ),
    Mutation(
        "no-fsync-of-folder",
        "A copy's name is on the disk before anything counts on it.",
        COPIES,
        "    if synced:\n        sync_folder(path)\n",
        "",
        ON_DISK + "test_a_copy_and_its_name_are_on_the_disk",
    ),
    Mutation(
        "no-fsync-of-new-layout",
        "A copy with a late layer is on the disk before it takes the place of the recording.",
        FILE,
        "synced=self._fsync is not None)",
        "synced=False)",
        COPY_ON_DISK,
    ),
    Mutation(
        "replaced-before-it-is-on-the-disk",
        "What was written is on the disk before the file is closed for a copy of it.",
        FILE,
        "        if self._fsync is not None:\n            try_to_sync(self._path)\n",
        "",
        ON_DISK + "test_a_copy_and_its_name_are_on_the_disk",
    ),
    # What is written
    Mutation(
        "checksum-wrong",
        "Every frame has the checksum of its bytes.",
        "record/writer/pending.py",
        "        return schema.checksum(slot.of(values))\n",
        "        return schema.checksum(slot.of(values)) ^ 1\n",
        SAID,
    ),
    Mutation(
        "value-checksum-wrong",
        "Every value beside a frame has its checksum.",
        "record/writer/datasets.py",
        "        checksums = schema.checksum_cells(values)\n",
        "        checksums = schema.checksum_cells(values) ^ 1\n",
        "tests/record/writer/test_value_checksums.py::test_every_value_has_its_checksum",
    ),
    Mutation(
        "image-checksum-wrong",
        "Every image has the checksum of its bytes.",
        "record/writer/pending.py",
        "schema.checksum(image.of(values))",
        "schema.checksum(image.of(values)) ^ 1",
        SAID,
    ),
    Mutation(
        "ranges-swapped",
        "Beside each map stand its smallest and its largest value.",
        "record/writer/summaries.py",
        """\
        ranges[:, self._at_rows, 0] = lowest.view(np.float16)
        ranges[:, self._at_rows, 1] = highest.view(np.float16)
""",
        """\
        ranges[:, self._at_rows, 1] = lowest.view(np.float16)
        ranges[:, self._at_rows, 0] = highest.view(np.float16)
""",
        "tests/record/writer/test_summaries.py::test_one_pass_says_what_a_pass_for_each_layer_says",
    ),
    Mutation(
        "ranges-of-another-channel",
        "Each map has its own range.",
        "record/writer/summaries.py",
        "        self._at_rows = _as_slice(self._rows)\n",
        "        self._at_rows = _as_slice(self._rows[::-1])\n",
        "tests/record/writer/test_summaries.py::test_one_pass_says_what_a_pass_for_each_layer_says",
    ),
    Mutation(
        "ranges-not-finite",
        "A range is of finite values.",
        "record/writer/summaries.py",
        "        all_finite = highest.max() < _INF and unsigned.max() < _NEGATIVE_INF\n",
        "        all_finite = True\n",
        "tests/record/writer/test_summaries.py::test_one_pass_says_what_a_pass_for_each_layer_says",
    ),
    Mutation(
        "range-of-one-sign",
        "The range of maps of one sign is theirs.",
        "record/writer/summaries.py",
        "        if highest.min() < 0 or lowest.max() >= 0:",
        "        if False:",
        "tests/record/writer/test_summaries.py::test_maps_of_one_sign_beside_maps_of_both",
    ),
    Mutation(
        "losses-not-written",
        "What is lost is counted in the file.",
        SERVICE,
        'self._file.close(ended.get("dropped"), ended.get("lost"))',
        "self._file.close(0, 0)",
        ORDER + "test_counts_at_the_end_are_those_of_the_training",
    ),
    Mutation(
        "losses-not-written-meanwhile",
        "What is lost is counted in the file of a training that was killed, too.",
        FILE,
        "        self._state[1:3] = header.dropped, header.lost + self.cells.refused\n",
        "",
        PROCESS + "test_it_closes_the_file_at_the_end_of_its_input",
    ),
    Mutation(
        "second-pass-overwrites",
        "A frame that was recorded is never written over.",
        "record/writer/cells.py",
        "is_taken = taken is not None and bool(taken[place])",
        "is_taken = False",
        "tests/record/writer/test_cells.py::test_whatever_the_order_each_frame_is_in_the_file",
    ),
    Mutation(
        "frame-beyond-what-readers-take",
        "A file is never larger than readers accept.",
        "record/writer/cells.py",
        "            if not self._fits(row + 1, header.batch + 1):\n                self._say(",
        "            if False:\n                self._say(",
        "tests/record/writer/test_cells.py::test_a_file_is_never_larger_than_readers_accept",
    ),
    Mutation(
        "refused-frames-not-counted",
        "A frame for which a file has no place is counted.",
        "record/writer/cells.py",
        "            self.refused += len(placed) - len(kept)\n",
        "            pass\n",
        "tests/record/writer/test_cells.py::test_one_clear_line_for_a_training",
    ),
    Mutation(
        "thinning-takes-what-stays",
        "Of the frames that a budget thins, those that stay are whole.",
        COPIES,
        "            for place, frame in enumerate(frames):\n",
        "            for place, frame in enumerate(frames[:-1]):\n",
        SAID,
    ),
    Mutation(
        "thinning-takes-the-first",
        "A budget keeps the first of so many frames.",
        FILE,
        "((recorded - 1) % keep == 0)",
        "(recorded % keep == 0)",
        "tests/record/writer/test_cells.py::test_whatever_the_order_each_frame_is_in_the_file",
    ),
    Mutation(
        "epochs-of-one-batch-are-frames",
        "Of numbers that epochs share a chunk of, only those of the frames that stay are copied.",
        COPIES,
        "        if node.chunks[:2] == (1, 1) and",
        "        if node.chunks[1] == 1 and",
        "tests/record/writer/test_short_epochs.py"
        "::test_a_budget_takes_frames_out_of_chunks_that_epochs_share",
    ),
    Mutation(
        "resume-keeps-what-it-replaces",
        "A resumed run replaces the frames from its first epoch on.",
        COPIES,
        "        stays[resume:] = False\n",
        "",
        "tests/record/writer/test_cells.py::test_resumed_epochs_are_replaced_and_the_others_are_not",
    ),
    Mutation(
        "resume-takes-an-epoch-more",
        "A resumed run keeps the frames of the epochs before.",
        COPIES,
        "        stays[resume:] = False\n",
        "        stays[max(0, resume - 1) :] = False\n",
        "tests/record/writer/test_cells.py::test_resumed_epochs_are_replaced_and_the_others_are_not",
    ),
    # Whose the file is
    Mutation(
        "mode-not-kept",
        "A recording that is changed in a copy keeps its mode.",
        "record/writer/ownership.py",
        "        os.chmod(target, mode)\n",
        "        pass\n",
        RIGHTS + "test_the_mode_stays",
    ),
    Mutation(
        "owner-not-kept",
        "A recording that is changed in a copy keeps its owner.",
        "record/writer/ownership.py",
        "            os.chown(target, about.st_uid, -1)\n",
        "            pass\n",
        RIGHTS + "test_the_owner_stays",
    ),
    Mutation(
        "group-not-kept",
        "A recording that is changed in a copy keeps its group.",
        "record/writer/ownership.py",
        "            os.chown(target, -1, about.st_gid)\n",
        "            pass\n",
        RIGHTS + "test_the_owner_stays",
    ),
    Mutation(
        "copy-is-public",
        "Nobody else may read a copy before it has the rights of the recording.",
        "record/writer/ownership.py",
        "    mode = 0o600 if private or like is not None else 0o666\n",
        "    mode = 0o666\n",
        RIGHTS + "test_nobody_else_may_read_a_copy_before_it_has_its_rights",
    ),
    Mutation(
        "link-replaced",
        "What a link leads to is written, and the link stays.",
        FILE,
        "        self._path = os.path.realpath(path)\n",
        "        self._path = path\n",
        RIGHTS + "test_a_link_stays_and_what_it_leads_to_is_written",
    ),
    Mutation(
        "overwrites-unasked",
        "An existing file is replaced only where that was asked for.",
        "record/writer/ownership.py",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC",
        "os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC",
        RIGHTS + "test_a_file_that_turned_up_just_now_is_not_written_over",
    ),
    Mutation(
        "overwrites-at-once",
        "A file that is to be replaced stands until the new one can be read.",
        FILE,
        "        self._copy = create_copy(self._path)\n",
        "        os.truncate(self._path, 0)\n        self._copy = create_copy(self._path)\n",
        "tests/record/locking/test_lock_file.py::test_a_start_that_fails_leaves_all_as_it_was",
    ),
    Mutation(
        "start-leaves-a-file",
        "A start that fails leaves no file behind.",
        FILE,
        "        for path in filter(None, (self._created, self._copy)):\n"
        "            try_to_remove(path)\n",
        "",
        "tests/record/locking/test_lock_file.py::test_a_start_that_fails_leaves_all_as_it_was",
    ),
    Mutation(
        "recordings-are-garbage",
        "Only a start that has left no frame is taken for one that was not finished.",
        "record/writer/unfinished_start.py",
        "not state[0] and not state[3] and begun",
        "state is not None",
        "tests/record/writer/test_unfinished_starts.py::test_nothing_else_is_taken_for_one",
    ),
    Mutation(
        "unfinished-start-refused",
        "What a start that was killed has left keeps nobody from the next one.",
        "record/writer/recording_file.py",
        "        overwrite |= self._lock.took_over and is_unfinished_start(self._path)\n",
        "",
        "tests/record/writer/test_unfinished_starts.py::test_a_start_that_was_killed_is_taken_up",
    ),
    Mutation(
        "lock-off",
        "A recording has one writer.",
        LOCK,
        "        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "        pass\n",
        PROCESS + "test_a_second_one_is_refused",
    ),
    Mutation(
        "lock-not-released",
        "The lock file goes with its writer.",
        FILE,
        "while it closed the file\n        self._lock.release()\n",
        "while it closed the file\n",
        RIGHTS + "test_the_mode_stays",
    ),
    Mutation(
        "lock-of-each-name",
        "By whatever link a recording is called, it has one writer.",
        HOLDERS,
        '    return f"{os.path.realpath(path)}.lock"\n',
        '    return f"{os.path.abspath(path)}.lock"\n',
        "tests/record/locking/test_lock_file.py::test_a_link_has_the_lock_of_what_it_leads_to",
    ),
    Mutation(
        "lock-not-renewed",
        "Where files cannot be locked, a writer shows that it is there.",
        LOCK,
        "                os.utime(self._descriptor)\n",
        "                pass\n",
        "tests/record/locking/test_lock_file.py::test_a_holder_shows_that_it_is_there",
    ),
    Mutation(
        "writes-into-a-removed-file",
        "A file that was removed or replaced ends the recording, and that is said.",
        FILE,
        "        if (ours.st_dev, ours.st_ino) != (found.st_dev, found.st_ino):\n",
        "        if False:\n",
        "tests/record/test_resume.py::test_a_file_that_somebody_takes_away",
    ),
    # The process
    Mutation(
        "no-parent-check",
        "The writer ends with the training, also where a forked child holds its pipe.",
        SERVICE,
        "                if os.getppid() != parent:",
        "                if False:",
        PROCESS + "test_it_closes_the_file_when_its_training_dies_and_a_child_holds_the_pipe",
    ),
    Mutation(
        "end-of-pipe-is-no-end",
        "The file is closed when the training is gone.",
        SERVICE,
        "                if message is None:\n                    return {}\n",
        "                if message is None:\n                    raise EOFError\n",
        PROCESS + "test_it_closes_the_file_at_the_end_of_its_input",
    ),
    Mutation(
        "ctrl-c-ends-the-writer",
        "The writer ignores Ctrl-C.",
        "record/writer/__main__.py",
        "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n",
        "",
        PROCESS + "test_ctrl_c_is_for_the_training_and_who_tells_it_to_stop_gets_a_closed_file",
    ),
    Mutation(
        "sigterm-kills-the-writer",
        "A writer that is told to stop closes its file.",
        "record/writer/__main__.py",
        "    signal.signal(signal.SIGTERM, lambda *_: stopped.set())\n",
        "",
        PROCESS + "test_ctrl_c_is_for_the_training_and_who_tells_it_to_stop_gets_a_closed_file",
    ),
)
