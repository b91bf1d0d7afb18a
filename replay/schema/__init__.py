"""The file format and the errors: names, dtypes and versions, encode beside decode.

This is the one room that both packages share, and the only part of `replay` that `record`
imports. It opens no file and imports neither h5py nor torch. `docs/format.md` describes the same
file for people who will never run this code.

- `format`: the names, dtypes and versions in a file, the names of layers, and what is kept of a
  frame beside its values: a checksum, its range, and what is not finite;
- `losses`: how a loss is spelled;
- `errors`: the one tree of errors;
- `faces`, `suggestions` and `arguments`: how both packages speak to a user: options as they are
  spelled in Python or on a command line, what an unknown word was meant to be, the parser.

`format` and `errors` may be imported from here.
"""

from replay.schema.errors import (
    DamagedError,
    EncodeError,
    FileError,
    OptionError,
    OutputError,
    RecordingError,
    SelectionError,
)
from replay.schema.format import (
    ATTENTION,
    AXES,
    BATCHES,
    CAM,
    CHECKSUM_DTYPE,
    CHECKSUMS,
    EXPONENT_DTYPE,
    EXPONENTS,
    FIELDS,
    FORMAT,
    FRAME_DTYPE,
    GRADIENTS,
    INPUTS,
    KERNEL_CHECKSUMS,
    KERNELS,
    LOGGED,
    MAPS,
    PROBE,
    PROBE_INPUT,
    RANGE_DTYPE,
    RANGES,
    RESERVED,
    STATE,
    STATE_FIELDS,
    VERSION,
    Cell,
    Field,
    Float16Array,
    Float32Array,
    FrameSummary,
    Layer,
    checksum,
    custom_field,
    dataset_path,
    decode_meta,
    decode_name,
    encode_meta,
    encode_name,
    format_intervals,
    inputs_path,
    program_version,
    summarize,
)
from replay.schema.losses import spell_loss

__all__ = [
    "ATTENTION",
    "AXES",
    "BATCHES",
    "CAM",
    "CHECKSUMS",
    "CHECKSUM_DTYPE",
    "EXPONENTS",
    "EXPONENT_DTYPE",
    "FIELDS",
    "FORMAT",
    "FRAME_DTYPE",
    "GRADIENTS",
    "INPUTS",
    "KERNELS",
    "KERNEL_CHECKSUMS",
    "LOGGED",
    "MAPS",
    "PROBE",
    "PROBE_INPUT",
    "RANGES",
    "RANGE_DTYPE",
    "RESERVED",
    "STATE",
    "STATE_FIELDS",
    "VERSION",
    "Cell",
    "DamagedError",
    "EncodeError",
    "Field",
    "FileError",
    "Float16Array",
    "Float32Array",
    "FrameSummary",
    "Layer",
    "OptionError",
    "OutputError",
    "RecordingError",
    "SelectionError",
    "checksum",
    "custom_field",
    "dataset_path",
    "decode_meta",
    "decode_name",
    "encode_meta",
    "encode_name",
    "format_intervals",
    "inputs_path",
    "program_version",
    "spell_loss",
    "summarize",
]
