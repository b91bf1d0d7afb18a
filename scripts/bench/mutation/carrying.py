"""Mutations of the way to the writer: shared memory, the queue, what is counted, the ends."""

from __future__ import annotations

from mutation import Mutation

SERVICE = "record/writer/service.py"
CHANNEL = "record/transport/frame_channel.py"
COURIER = "record/transport/courier.py"
COUNTS = "tests/record/transport/test_counts.py::"
ENDS = "tests/record/transport/test_ends.py::"

MUTATIONS = (
    Mutation(
        "slot-freed-early",
        "A slot of the shared memory is the training's again once its frame is written.",
        SERVICE,
        "            self._write(group, self._shared.frames(slots, size))\n"
        "            self._shared.done(len(slots))\n",
        "            self._shared.done(len(slots))\n"
        "            self._write(group, self._shared.frames(slots, size))\n",
        "tests/record/writer/test_slots.py"
        "::test_a_slot_is_given_back_when_its_frame_is_written_and_not_before",
    ),
    Mutation(
        "slot-never-freed",
        "A slot comes back when its frame is written.",
        SERVICE,
        "            self._shared.done(len(slots))\n",
        "",
        "tests/record/writer/test_slots.py"
        "::test_a_slot_is_given_back_when_its_frame_is_written_and_not_before",
    ),
    Mutation(
        "frames-out-of-order",
        "Frames stay in their order, whoever carries them.",
        CHANNEL,
        "        carries = frame.arrived is not None or not pool.shared"
        " or self.queued != self.carried\n",
        "        carries = frame.arrived is not None or not pool.shared\n",
        "tests/record/transport/test_courier.py"
        "::test_frames_stay_in_their_order_whoever_carries_them",
    ),
    Mutation(
        "drop-not-counted",
        "A frame for which there is no room in the queue is counted.",
        CHANNEL,
        "            self.dropped += 1\n",
        "            pass\n",
        ENDS + "test_a_writer_that_stands_still_holds_nobody_up_and_what_that_costs_is_counted",
    ),
    Mutation(
        "loss-not-counted",
        "A frame that the writer takes no more is counted.",
        CHANNEL,
        '        if kind == "lost":\n            self.count_lost(1)\n',
        '        if kind == "lost":\n            pass\n',
        ENDS + "test_each_frame_that_a_dead_writer_does_not_take_is_counted",
    ),
    Mutation(
        "sent-and-not-committed",
        "Frames that were sent and never committed are lost, and counted.",
        COURIER,
        "self.channel.count_lost(max(0, self.sent - known))",
        "self.channel.count_lost(0)",
        COUNTS + "test_every_forward_is_in_the_file_or_counted",
    ),
    Mutation(
        "failure-not-said",
        "A recording that ends early is said.",
        COURIER,
        "        if failure is None or self._reported:\n",
        "        if True:\n",
        COUNTS + "test_every_forward_is_in_the_file_or_counted",
    ),
    Mutation(
        "frames-of-a-removed-file",
        "Of a file that is gone no frames are said to be in it.",
        COURIER,
        "        if not self.path.exists():\n",
        "        if False:\n",
        COUNTS + "test_every_forward_is_in_the_file_or_counted",
    ),
    Mutation(
        "training-waits-for-ever",
        "A writer that stands still holds the training up for some seconds, once.",
        CHANNEL,
        "                if self.idle_seconds >= self.patience:\n",
        "                if False:\n",
        ENDS + "test_a_writer_that_stands_still_holds_nobody_up_and_what_that_costs_is_counted",
    ),
    Mutation(
        "drops-where-it-should-wait",
        'With when_full="wait" no frame is dropped while the writer works.',
        CHANNEL,
        '        if self._when_full == "wait":\n',
        "        if False:\n",
        "tests/record/transport/test_startup.py::test_frames_queue_until_the_writer_is_there",
    ),
    Mutation(
        "atexit-off",
        "A program that ends without close has all its frames.",
        COURIER,
        "        atexit.register(self._at_exit)\n",
        "",
        ENDS + "test_a_program_that_ends_without_close_has_all_its_frames",
    ),
    Mutation(
        "fork-writes-on",
        "A forked child writes nothing into the recording of its parent.",
        COURIER,
        "            os.register_at_fork(after_in_child=weakly(self._leave_to_parent))\n",
        "            pass\n",
        "tests/record/test_harmless.py"
        "::test_a_forked_child_does_not_write_into_the_frames_of_its_parent",
    ),
    Mutation(
        "writer-in-the-terminals-session",
        "A terminal that is closed ends the training, and not the writer.",
        "record/transport/writer_process.py",
        "                start_new_session=True,",
        "                start_new_session=False,",
        "tests/record/writer/test_process.py"
        "::test_a_terminal_that_is_closed_ends_the_training_alone",
    ),
    Mutation(
        "standard-streams-taken",
        "Where a standard stream is closed, its number is not taken by what the writer inherits.",
        "record/protocol/shared_memory.py",
        "    if descriptor > 2:\n",
        "    if True:\n",
        "tests/record/transport/test_environment.py::test_closed_streams",
    ),
    Mutation(
        "old-memory-kept",
        "The memory of an earlier layout is given back.",
        "record/protocol/shared_memory.py",
        "        if old is not None:\n",
        "        if False:\n",
        "tests/record/transport/test_frame_memory.py"
        "::test_the_memory_of_an_earlier_layout_is_given_back",
    ),
    Mutation(
        "moved-not-said",
        "Batches that come a second time are said.",
        CHANNEL,
        "while self._process.moved:",
        "while False:",
        "tests/record/writer/test_cells.py"
        "::test_epochs_that_begin_again_lose_nothing_and_say_so_once",
    ),
    Mutation(
        "memory-left-behind",
        "A recorder that is closed leaves nothing in its process.",
        "record/transport/writer_process.py",
        "            self.memory.close()\n            self.memory = None\n        if self._process",
        "            self.memory = None\n        if self._process",
        "tests/record/transport/test_nothing_left.py::test_no_descriptor_thread_or_memory_stays",
    ),
    Mutation(
        "model-kept-alive",
        "A recorder that is closed keeps no model alive.",
        "record/recorder.py",
        "        batches, model, self._model = self.committed, self._model, None",
        "        batches, model = self.committed, self._model",
        "tests/record/test_recorder_ends.py::test_a_closed_recorder_keeps_no_model_alive",
    ),
)
