"""Chunk data: what a camera says of a frame within the frame itself, so that it can't belong to another.

Selector entries and nodes are those of SFNC 2.x and, behind them, of Basler's GigE families. What a camera has is
switched on when a recipe is set up; from then on a frame without it is not whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from cell.errors import CameraError
from cell.frames import AcquisitionFault
from drivers.cameras.features import GenApiFeatures

#: Quantity: (entry of ChunkSelector, node that holds it), the first that a camera has.
CHUNKS: dict[str, tuple[tuple[str, str], ...]] = {
    "frame_counter": (("FrameID", "ChunkFrameID"), ("Framecounter", "ChunkFramecounter")),
    "timestamp": (("Timestamp", "ChunkTimestamp"),),
    "exposure_us": (("ExposureTime", "ChunkExposureTime"),),
    "gain_db": (("Gain", "ChunkGain"),),
    "trigger_count": (
        ("CounterValue", "ChunkCounterValue"),
        ("Triggerinputcounter", "ChunkTriggerinputcounter"),
        ("FrameTriggerCounter", "ChunkFrameTriggerCounter"),
    ),
    "line_count": (
        ("EncoderValue", "ChunkEncoderValue"),
        ("LineTriggerCounter", "ChunkLineTriggerCounter"),
        ("ShaftEncoderCounter", "ChunkShaftEncoderCounter"),
    ),
}
#: The counter that counts the edges of the trigger line.
_COUNTER = "Counter1"


@dataclass(frozen=True, slots=True)
class ChunkData:
    """What a frame said of itself; None for what its camera does not say."""

    frame_counter: int | None = None
    timestamp: int | None = None  # in the device's ticks
    exposure_us: float | None = None
    gain_db: float | None = None
    trigger_count: int | None = None
    line_count: int | None = None


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """Which quantities a camera sends, and in which nodes."""

    nodes: dict[str, str]

    def read(self, features: GenApiFeatures) -> ChunkData:
        """Return a frame's chunk data; `features` are those that its buffer is attached to.

        Raises `CameraError` (incomplete) when something that was switched on did not come.
        """
        values: dict[str, float] = {}
        for quantity, node in self.nodes.items():
            value = features.read(node) if features.readable(node) else None
            if not isinstance(value, (int, float)):
                raise CameraError(
                    f"camera {features.camera} sent a frame without its {node}; check cable and bandwidth",
                    fault=AcquisitionFault.INCOMPLETE,
                )
            values[quantity] = value
        return ChunkData(
            frame_counter=_whole(values, "frame_counter"),
            timestamp=_whole(values, "timestamp"),
            exposure_us=values.get("exposure_us"),
            gain_db=values.get("gain_db"),
            trigger_count=_whole(values, "trigger_count"),
            line_count=_whole(values, "line_count"),
        )


def switch_on(features: GenApiFeatures, trigger_line: str | None) -> ChunkPlan:
    """Switch on what the camera has of :data:`CHUNKS` and return what every frame will carry.

    :param trigger_line: the line whose edges are counted; None where none triggers.
    :raises CameraError: the camera lists a chunk and refuses to send it.
    """
    offered = features.choices("ChunkSelector")
    wanted = {
        quantity: found
        for quantity, candidates in CHUNKS.items()
        if (found := next((pair for pair in candidates if pair[0] in offered and features.has(pair[1])), None))
    }
    if "trigger_count" in wanted and not _count_edges(features, wanted["trigger_count"][0], trigger_line):
        del wanted["trigger_count"]
    if not wanted:
        return ChunkPlan({})
    features.write("ChunkModeActive", True)
    for entry, _ in wanted.values():
        features.write("ChunkSelector", entry)
        if features.writable("ChunkEnable"):
            features.write("ChunkEnable", True)
        elif features.read("ChunkEnable") is not True:
            raise CameraError(
                f"camera {features.camera}: the chunk {entry} is off and can't be switched on; see its manual"
            )
    return ChunkPlan({quantity: node for quantity, (_, node) in wanted.items()})


def _count_edges(features: GenApiFeatures, entry: str, trigger_line: str | None) -> bool:
    """Let the counter behind a chunk count a line's edges from 0; tell whether it does."""
    if trigger_line is None:
        return False
    if entry != "CounterValue":
        return True  # counts triggers by itself
    if _COUNTER not in features.choices("CounterSelector"):
        return False
    features.write("CounterSelector", _COUNTER)
    if trigger_line not in features.choices("CounterEventSource"):
        return False
    features.write("CounterEventSource", trigger_line)
    if "RisingEdge" in features.choices("CounterEventActivation"):
        features.write("CounterEventActivation", "RisingEdge")
    if "Off" in features.choices("CounterResetSource"):
        features.write("CounterResetSource", "Off")
    if features.writable("CounterReset"):
        features.execute("CounterReset")
    if _COUNTER in features.choices("ChunkCounterSelector"):
        features.write("ChunkCounterSelector", _COUNTER)
    return True


def _whole(values: dict[str, float], quantity: str) -> int | None:
    return int(values[quantity]) if quantity in values else None
