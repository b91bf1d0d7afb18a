"""Mutations of what is copied while a network trains, and of what the training may notice."""

from __future__ import annotations

from mutation import Mutation

HOOK = "record/capture/layer_hook.py"
SLOTS = "record/capture/slots.py"
SENDER = "record/session/frame_sender.py"
PROGRESS = "record/session/progress.py"
RECORDER = "tests/record/test_recorder.py::"
EVERY = RECORDER + "test_every_frame_kernel_input_range_and_checksum"
GRADIENTS = "tests/record/capture/test_gradients.py::"

MUTATIONS = (
    Mutation(
        "frame-of-second-image",
        "The maps are those of the first image of a batch.",
        HOOK,
        "output.detach().select(axis, 0)",
        "output.detach().select(axis, -1)",
        EVERY,
    ),
    Mutation(
        "image-of-second-image",
        "The image is the first one of its batch.",
        "record/capture/model_hook.py",
        "            seen.keep(image_part(tensor, axis, 0))\n",
        "            seen.keep(image_part(tensor, axis, -1))\n",
        EVERY,
    ),
    Mutation(
        "probe-of-another-image",
        "The maps of each fixed image are its own.",
        HOOK,
        "        number = slots.probe or 0\n",
        "        number = 0\n",
        "tests/record/capture/test_probe.py::test_frames_and_an_undisturbed_training",
    ),
    Mutation(
        "frame-not-copied",
        "What a later operation makes of a layer's output in its place is not in its frame.",
        SLOTS,
        "            copied = image.to(torch.float16, copy=True)\n",
        "            copied = image.to(torch.float16)\n",
        "tests/record/capture/test_hazards.py::test_hazard",
    ),
    Mutation(
        "kernels-of-another-batch",
        "The kernels beside a frame are those that made it.",
        HOOK,
        "                    kernel.copy_(weight.detach())\n",
        "                    pass\n",
        EVERY,
    ),
    Mutation(
        "epoch-off-by-one",
        "A frame stands at its epoch.",
        SENDER,
        "            epoch=epoch,\n",
        "            epoch=epoch + 1,\n",
        EVERY,
    ),
    Mutation(
        "batch-off-by-one",
        "A frame stands at its batch.",
        PROGRESS,
        "        self.batch += 1 + self._passed_over\n",
        "        self.batch += 2 + self._passed_over\n",
        RECORDER + "test_epoch_and_step_instead_of_track",
    ),
    Mutation(
        "tracked-batch-off-by-one",
        "A frame of a tracked loop stands at its batch.",
        "record/session/loop.py",
        "in enumerate(self._batches):\n",
        "in enumerate(self._batches, 1):\n",
        EVERY,
    ),
    Mutation(
        "step-off-by-one",
        "Beside a frame stands how many batches were trained before.",
        PROGRESS,
        "            at, sender = (epoch, batch, self.step), self.sender\n",
        "            at, sender = (epoch, batch, self.step + 1), self.sender\n",
        EVERY,
    ),
    Mutation(
        "evaluation-recorded",
        "Forwards in evaluation mode are not recorded.",
        "record/capture/model_hook.py",
        "            if not (training or state.evaluation):\n                self._hide_hooks()\n",
        "            if False:\n                self._hide_hooks()\n",
        RECORDER + "test_an_evaluation_within_a_batch_is_not_recorded",
    ),
    Mutation(
        "values-of-another-batch",
        "A number that is logged stands beside the batch that it belongs to.",
        "record/writer/datasets.py",
        "            values = np.array([frame.fields.get(name, field.fill) for frame in group], ",
        "            values = np.array([f.fields.get(name, field.fill) for f in group[::-1]], ",
        "tests/record/writer/test_cells.py::test_whatever_the_order_each_frame_is_in_the_file",
    ),
    Mutation(
        "checkpointing-recorded-twice",
        "A forward that checkpointing computes anew is no frame.",
        HOOK,
        "at_rest or torch._C._current_graph_task_id() != -1:",
        "at_rest:",
        "tests/record/capture/test_hazards.py::test_hazard",
    ),
    Mutation(
        "error-reaches-the-training",
        "No error of a recording is raised into the training.",
        "record/reporting.py",
        "        if self.raises:\n"
        '            raise RecordingError(f"cannot record {name}: {error}") from error\n',
        '        raise RecordingError(f"cannot record {name}: {error}") from error\n',
        "tests/record/test_harmless.py::test_an_odd_layer_does_not_stop_the_training",
    ),
    Mutation(
        "warning-reaches-the-training",
        "A warning is no error for the training, also where warnings are errors.",
        "record/reporting.py",
        "        except RecordingWarning:\n            print(",
        "        except RecordingWarning:\n            raise\n            print(",
        "tests/record/test_harmless.py::test_warnings_as_errors_do_not_reach_the_training",
    ),
    Mutation(
        "python-state-not-restored",
        "Showing a fixed image leaves no trace in what the model holds.",
        "record/session/first_image_probe.py",
        "            python.restore()\n",
        "            pass\n",
        "tests/record/capture/test_first_image_probe.py"
        "::test_what_a_forward_does_in_python_is_undone",
    ),
    Mutation(
        "random-numbers-used-up",
        "Fixed images take no random number from the training.",
        "record/capture/probe.py",
        "            random.setstate(python)\n            np.random.set_state(numbers)\n",
        "            pass\n",
        "tests/record/capture/test_probe.py::test_frames_and_an_undisturbed_training",
    ),
    Mutation(
        "running-means-changed",
        "Fixed images leave the model's buffers as they are.",
        "record/capture/probe.py",
        "            buffers[name] = buffer.clone()\n",
        "            pass\n",
        "tests/record/capture/test_first_image_probe.py"
        "::test_its_maps_are_those_of_the_first_image_after_each_update",
    ),
    Mutation(
        "writes-in-place-let-through",
        "A forward that changes tensors in their place is not called for a picture.",
        "record/capture/refused_writes.py",
        "            if isinstance(tensor, torch.Tensor) and _storage(tensor) not in self._made:\n",
        "            if False:\n",
        "tests/record/capture/test_first_image_probe.py::test_where_that_is_not_safe_it_is_left_out",
    ),
    Mutation(
        "probe-takes-its-time",
        "A fixed image that nobody asked for takes at most two percent of the time.",
        "record/schedule/cadence.py",
        "        if power > self.stride or needed < 0.4 * self.stride:\n",
        "        if False:\n",
        "tests/record/capture/test_first_image_probe.py::test_the_cadence_is_regular_and_cheap",
    ),
    Mutation(
        "copies-carry-hooks",
        "A copy of the model carries nothing of the recording.",
        "record/capture/hidden_hooks.py",
        '            self._wrap(nn.Module, "__getstate__", _returning_clean_state)\n',
        "",
        "tests/record/capture/test_copied_models.py::test_copies_have_no_hook_of_ours",
    ),
    Mutation(
        "failed-copy-shown",
        "What a copy that failed has left in a buffer is never a frame.",
        "record/capture/captured_frames.py",
        "            in_slot = bool(slots.in_slots >> call & 1) and (slots, call) not in seen\n",
        "            in_slot = (slots, call) not in seen\n",
        "tests/record/capture/test_failed_copies.py"
        "::test_a_copy_that_failed_is_lost_and_not_what_the_buffer_held",
    ),
    Mutation(
        "reserved-name-logged",
        "What the recorder keeps itself cannot be logged over.",
        "record/session/loop.py",
        "        if name in schema.RESERVED:\n",
        "        if False:\n",
        RECORDER + "test_log_refuses_what_is_not_one_number",
    ),
    Mutation(
        "overflow-not-counted",
        "Values that are not finite are counted beside their frame.",
        "record/writer/summaries.py",
        "                counts[number][1] += found.inf\n",
        "                pass\n",
        RECORDER + "test_overflow_and_nan_are_counted",
    ),
    Mutation(
        "gradient-factor-not-divided",
        "Gradients are those of the loss, not of what a GradScaler makes of it.",
        "record/capture/map_gradient.py",
        "            image = image.float().div(found.factor)\n",
        "            image = image.float()\n",
        GRADIENTS + "test_the_factor_of_a_grad_scaler_is_divided_out",
    ),
    Mutation(
        "exponent-off-by-one",
        "A gradient times two to the power of its exponent is its true value.",
        "record/capture/gradient_scaling.py",
        "    return exponent\n",
        "    return exponent + 1\n",
        "tests/record/capture/test_gradient_scaling.py"
        "::test_both_ways_bring_each_frame_next_below_the_largest_float16",
    ),
    Mutation(
        "gradient-of-second-image",
        "The gradients are those of the first image of a batch.",
        "record/capture/map_gradient.py",
        "        image = image_part(gradient, self._axis, 0)\n",
        "        image = image_part(gradient, self._axis, -1)\n",
        GRADIENTS + "test_convolutions_and_what_was_changed_in_place",
    ),
    Mutation(
        "gradients-not-summed",
        "Where several backward passes come through a map, its gradient is their sum.",
        "record/capture/map_gradient.py",
        "            total.add_(image)\n",
        "            total.copy_(image)\n",
        GRADIENTS + "test_several_backward_passes_are_summed",
    ),
    Mutation(
        "gradient-of-a-pass-on-the-way",
        "A pass by parameters on the way to a loss is no part of its gradients.",
        "record/capture/map_gradient.py",
        "            self.has_come = False\n        if not found.is_known",
        "            pass\n        if not found.is_known",
        "tests/record/capture/test_gradient_passes.py"
        "::test_a_pass_on_the_way_to_the_loss_does_not_count",
    ),
    Mutation(
        "heads-taken-for-images",
        "Attention is the first image's also where heads come before images.",
        "record/capture/attention_frames.py",
        "            self._heads_lead[name] = told\n",
        "            self._heads_lead[name] = False\n",
        "tests/record/capture/test_attention_order.py::test_the_first_image_is_found",
    ),
    Mutation(
        "hooks-of-others-taken",
        "A recorder that ends leaves the hooks of others of the same model.",
        "record/capture/capture.py",
        "            remove_hooks(module, self.state)\n",
        "            remove_hooks(module)\n",
        "tests/record/capture/test_several_recorders.py::test_each_has_what_it_would_have_alone",
    ),
    Mutation(
        "attributes-stay-changed",
        "What given images leave in attributes of modules, the training never meets.",
        "record/capture/module_attributes.py",
        "                if own.get(name, _MISSING) is not value:\n",
        "                if name not in own:\n",
        "tests/record/capture/test_module_attributes.py::test_the_training_is_the_same",
    ),
    Mutation(
        "budget-exceeded",
        "A recording stays within its budget.",
        "record/schedule/budget.py",
        "            self._room = max(1, rest // self._frame)\n            return self._room\n",
        "            self._room = max(1, 2 * rest // self._frame)\n            return self._room\n",
        "tests/record/schedule/test_schedule.py::test_the_file_stays_below_its_budget",
    ),
    Mutation(
        "budget-of-unknown-length-exceeded",
        "A recording of a run of unknown length stays within its budget.",
        "record/schedule/budget.py",
        "            if kept and self._kept >= self._room:\n",
        "            if False:\n",
        "tests/record/schedule/test_schedule.py"
        "::test_a_budget_of_an_endless_run_spreads_evenly_at_any_time",
    ),
    Mutation(
        "checkpoint-runs-code",
        "Nothing in a checkpoint is executed.",
        "record/training/checkpoint.py",
        '        state = torch.load(path, map_location="cpu", weights_only=True)\n'
        "    except FileNotFoundError as error:\n",
        '        state = torch.load(path, map_location="cpu", weights_only=False)\n'
        "    except FileNotFoundError as error:\n",
        "tests/record/training/test_checkpoint.py::test_nothing_in_a_file_is_executed",
    ),
    Mutation(
        "replaced-file-runs-code",
        "Nothing in a file that a checkpoint is to replace is executed.",
        "record/training/checkpoint.py",
        '        state = torch.load(path, map_location="cpu", weights_only=True)\n'
        "    except Exception:",
        '        state = torch.load(path, map_location="cpu", weights_only=False)\n'
        "    except Exception:",
        "tests/record/training/test_checkpoint.py::test_nothing_in_a_file_is_executed",
    ),
    Mutation(
        "no-fsync-of-checkpoint",
        "An older checkpoint stays until the new one is on the disk.",
        "record/training/checkpoint.py",
        "            os.fsync(file.fileno())\n",
        "",
        "tests/record/training/test_checkpoint.py"
        "::test_an_older_one_stays_until_the_new_one_is_on_the_disk",
    ),
    Mutation(
        "checkpoint-in-place",
        "A checkpoint that cannot be written leaves the older one as it was.",
        "record/training/checkpoint.py",
        '    new_path = path.with_name(f"{path.name}.new")\n',
        "    new_path = path\n",
        "tests/record/training/test_checkpoint.py"
        "::test_an_older_one_stays_until_the_new_one_is_on_the_disk",
    ),
    Mutation(
        "checkpoint-of-another-training",
        "A training goes on from a checkpoint of its own alone.",
        "record/training/checkpoint.py",
        "    if differences:\n",
        "    if False:\n",
        "tests/record/training/test_checkpoint.py::test_one_of_another_training_is_refused",
    ),
    Mutation(
        "checkpoint-replaces-anything",
        "A checkpoint replaces nothing but a checkpoint unasked.",
        "record/training/checkpoint.py",
        "    if not path.is_file() or not path.stat().st_size:\n",
        "    if True:\n",
        "tests/record/training/test_checkpoint.py::test_it_replaces_nothing_but_its_kind",
    ),
)
