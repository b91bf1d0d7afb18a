"""Cases in which a recording was once wrong, or something untrue was said, as short as they get."""

from __future__ import annotations

from generated.cases import Case
from generated.loops import Loop, Step
from generated.plans import Part, Plan
from generated.truth import Asked

ONCE = Loop(((Step(),),))
TWICE = Loop(((Step(3), Step(2)),))

FOUND = {
    "a_model_that_calls_itself": Case(Plan(calls=1), TWICE, Asked()),
    "a_layer_exchanged_behind_the_forward_and_a_fixed_image": Case(
        Plan(calls=1), Loop(((Step(after=("replace",)),),)), Asked(), probes=1
    ),
    "a_model_that_calls_itself_with_a_part_of_the_batch": Case(
        Plan(calls=2, some=True), TWICE, Asked()
    ),
    "tokens_of_a_part_of_the_batch": Case(
        Plan(rank=0, size=(7, 8), calls=1, some=True), Loop(((Step(4), Step()),)), Asked()
    ),
    "sequences_of_a_model_that_calls_itself": Case(
        Plan(rank=0, size=(7, 7), parts=(Part("swap"), Part("encoder")), calls=1),
        Loop(((Step(1),),)),
        Asked(),
    ),
    "one_image_without_an_axis_for_the_batch": Case(
        Plan(size=(3, 6), batched=False), TWICE, Asked()
    ),
    "one_signal_without_an_axis_for_the_batch": Case(
        Plan(rank=1, size=(1, 3), batched=False), ONCE, Asked("classes", 1)
    ),
    "tokens_with_the_batch_behind": Case(
        Plan(size=(2, 3), parts=(Part("conv", 4, 1), Part("tokens", 1), Part("encoder", 0))),
        TWICE,
        Asked(),
    ),
    "a_convolution_that_goes_through_a_sequence": Case(
        Plan(size=(2, 6), parts=(Part("scan"), Part("scan", 0, 1))), Loop(((Step(4),),)), Asked()
    ),
    "the_weights_of_attention": Case(
        Plan(size=(2, 3), parts=(Part("conv", 4, 1), Part("attention", 1, 1))), TWICE, Asked()
    ),
    "fixed_images_fewer_than_a_batch": Case(
        Plan(size=(4, 6), clash=True), Loop(((Step(3),),)), Asked(), probes=1
    ),
    "complex_values": Case(Plan(rank=1, size=(4, 9), parts=(Part("fourier"),)), TWICE, Asked()),
    "what_is_no_tensor": Case(
        Plan(parts=tuple(Part("opaque", what) for what in range(6))), TWICE, Asked()
    ),
    "images_in_a_list": Case(Plan(style="list"), TWICE, Asked()),
    "images_of_bytes": Case(Plan(style="bytes"), TWICE, Asked()),
    "an_evaluation_behind_a_forward_that_broke_off": Case(
        Plan(), Loop(((Step(), Step(kind="trip")),), "neither"), Asked()
    ),
    "copies_of_every_kind": Case(
        Plan(),
        Loop(((Step(before=("copy_train", "pickle"), after=("copy_keep", "kept")),) * 2,)),
        Asked(),
    ),
    "a_copy_behind_a_weight_with_a_state": Case(
        Plan(), Loop(((Step(before=("parametrize", "copy_call")), Step()),)), Asked()
    ),
    "a_copy_of_such_a_layer_in_its_place": Case(
        Plan(), Loop(((Step(), Step(before=("parametrize", "replace")), Step()),)), Asked()
    ),
    "a_layer_that_is_exchanged_before_the_first_forward": Case(
        Plan(), Loop(((Step(before=("replace",)), Step()),)), Asked()
    ),
    "a_layer_that_is_exchanged_before_the_last_forward": Case(
        Plan(), Loop(((Step(), Step(before=("replace",))),)), Asked()
    ),
    "a_step_without_a_forward": Case(
        Plan(),
        Loop(((Step(), Step(kind="skip_marked"), Step(), Step(), Step()),), "step"),
        Asked(every=2),
    ),
    "forwards_with_tensors_that_are_none": Case(
        Plan(), Loop(((Step(), Step(before=("func",)), Step(before=("trace",)), Step()),)), Asked()
    ),
    "what_torch_looks_at_strangely": Case(
        Plan(), Loop(((Step(after=("func", "trace")), Step(after=("fx",)), Step()),)), Asked()
    ),
}
