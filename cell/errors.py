"""The one exception tree.

Every message is one sentence that says what is wrong and what to do. ``exit_code`` is what a command line tool ends
with (sysexits.h where it has a fitting code); ``code`` is what stands in the ``error`` field of a wire reply: OPC
40100-1 keeps numbers above 0 for standards and gives those below 0 to applications.

::

    InspectdError
    ├── ConfigurationError      a setting or recipe is wrong before anything runs
    ├── SdkMissing              a vendor library is not installed
    ├── DataError               a file, folder or image from outside can't be used
    ├── HardwareError           a device does not do what was asked
    │   ├── CameraError
    │   ├── LightError
    │   └── EngineError
    ├── AcquisitionTimeout      a device did not answer within its time-out
    ├── StoreError              a fact or a picture can't be kept or found
    │   ├── DiskFull
    │   ├── StoreInUse          a second daemon on the same cell
    │   ├── SplitError          a part would stand on two sides of a split
    │   └── NotFound
    ├── GateError               the lock refused: no training or deployment without a person's decisions
    ├── ModelError              a model may not judge: digest, golden images, validation, provenance
    ├── CalibrationError        generation or measurement without a valid calibration
    ├── StateError              the command is not allowed in the present state
    ├── ProtocolError           a message on the wire is malformed
    ├── PeerTimeout             the other side of a socket did not answer in time
    └── JobError                a training job failed
        └── JobCancelled
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cell.frames import AcquisitionFault


class InspectdError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code = 1
    code = -1


class ConfigurationError(InspectdError):
    """Raise when a setting, recipe or command line value is wrong; nothing was started."""

    exit_code = 78
    code = -10


class SdkMissing(InspectdError):
    """Raise when a vendor library is not installed; the message names the install command."""

    exit_code = 69
    code = -11


class DataError(InspectdError):
    """Raise when a file, folder or image handed in from outside can't be used; nothing was written."""

    exit_code = 65
    code = -12


class HardwareError(InspectdError):
    """Raise when a device does not do what was asked of it.

    `fault` names what it means for the trigger under way, where the device can tell more than the class of the error.
    """

    exit_code = 74
    code = -20

    def __init__(self, message: str, *, fault: AcquisitionFault | None = None) -> None:
        super().__init__(message)
        self.fault = fault


class CameraError(HardwareError):
    """Raise when a camera refuses a setting, is gone, or delivers what is not a frame."""

    code = -21


class LightError(HardwareError):
    """Raise when a light controller refuses, clips a value or does not answer."""

    code = -22


class EngineError(HardwareError):
    """Raise when an inference engine can't be built, loaded or run."""

    code = -23


class AcquisitionTimeout(HardwareError):
    """Raise when a device did not answer within its time-out."""

    code = -24


class StillBusy(AcquisitionTimeout):
    """Raise when a device is still being brought back, and may be asked again soon."""

    code = -25


class StoreError(InspectdError):
    """Raise when a fact or a picture can't be kept or read back."""

    exit_code = 74
    code = -30


class DiskFull(StoreError):
    """Raise when the file system has no room left; what was stored before stays valid."""

    code = -31


class StoreInUse(StoreError):
    """Raise when another process owns the cell's state directory."""

    exit_code = 75
    code = -32


class SplitError(StoreError):
    """Raise when a part, its lot or its near-duplicate would come to stand on two sides of a split."""

    exit_code = 77
    code = -34


class NotFound(StoreError):
    """Raise when an id names nothing in the store."""

    exit_code = 66
    code = -33


class GateError(InspectdError):
    """Raise when training or deployment was asked for without the decisions of a named person."""

    exit_code = 77
    code = -40


class ModelError(InspectdError):
    """Raise when a model may not judge: wrong digest, failed golden images, refused provenance."""

    exit_code = 65
    code = -41


class CalibrationError(InspectdError):
    """Raise when a calibration is absent, outdated or can't be made from what was given."""

    exit_code = 65
    code = -42


class StateError(InspectdError):
    """Raise when a command is not allowed in the present state; the message names the state and the way out."""

    code = -50


class ProtocolError(InspectdError):
    """Raise when a message on the wire is malformed."""

    exit_code = 76
    code = -51


class PeerTimeout(InspectdError):
    """Raise when the other side of a socket did not answer in time."""

    exit_code = 75
    code = -52


class JobError(InspectdError):
    """Raise when a training job can't go on; what it wrote before stays valid and it can be resumed."""

    code = -60


class JobCancelled(JobError):
    """Raise inside a job when a person cancelled it."""

    exit_code = 130
    code = -61
