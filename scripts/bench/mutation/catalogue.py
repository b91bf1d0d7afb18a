"""All mutations, in the order of a frame's way: from a hook into the file, and out of it again."""

from __future__ import annotations

import answering
import capturing
import carrying
import making
import reading
import showing
import writing
from mutation import Mutation

MUTATIONS: tuple[Mutation, ...] = (
    *capturing.MUTATIONS,
    *carrying.MUTATIONS,
    *writing.MUTATIONS,
    *reading.MUTATIONS,
    *making.MUTATIONS,
    *showing.MUTATIONS,
    *answering.MUTATIONS,
)
