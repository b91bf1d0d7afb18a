"""Single channels of a layer over the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from replay.maps.axes import Maps, choose_channels
from replay.maps.overlaid import ChannelTiles
from replay.maps.overlay_series import OverlaySeries
from replay.option_values import Numbers
from replay.options import FilmOptions
from replay.recording import Recording, Series
from replay.recording.derived import DerivedRecording
from replay.schema import SelectionError

_USUAL = "top:4"  # of the channels: a picture of the input's size for each is large
