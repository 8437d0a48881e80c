"""Settings: one TOML file and ``INSPECTD_*`` environment variables, unknown keys refused.

Environment variables win over the file; nested keys are joined by two underscores (``INSPECTD_CAMERA__DRIVER``).
Validation touches neither hardware nor network nor disk.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from cell.errors import ConfigurationError
from cell.recipes import Name

#: Where the daemon looks when neither ``--config`` nor ``INSPECTD_CONFIG`` says otherwise.
DEFAULT_FILE = Path("/etc/inspectd/inspectd.toml")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CameraLamp(_Section):
    """A lamp on an output line of a camera, which the camera's sequencer switches between two exposures."""

    line: str  # the camera's output line
    user_output: int = Field(default=1, ge=1, le=32)  # keeps the line dark
    mode: Literal["continuous", "pulsed"] = "pulsed"
    inverted: bool = False


class CameraSettings(_Section):
    """Which camera. `producers` and `device` belong to `genicam`; `pylon` takes `device` as serial number or user
    id."""

    driver: Literal["pylon", "genicam", "simulated"] = "pylon"
    device: str = ""  # empty: the only one there is
    producers: tuple[Path, ...] = ()  # GenTL producers (.cti)
    frame_timeout_s: float = Field(default=2.0, gt=0)
    #: What starts an exposure: our software, an edge on `trigger_line`, or an action command from the network.
    trigger: Literal["software", "line", "action"] = "software"
    trigger_line: Name = "Line1"
    #: False keeps the camera in the daemon's own process, where a vendor's call that never returns stops the line.
    isolated: bool = True
    #: Light lines on this camera's outputs, where it is triggered without the host. Follows from `light.outputs`.
    lamps: dict[Name, CameraLamp] = Field(default_factory=dict, max_length=32)


_DEFAULT_LINES = ("light",)


class LightOutput(_Section):
    """One light line: the controller's output that feeds it, and what the lamp bears."""

    channel: int = Field(default=1, ge=1, le=32)  # number printed beside the output; of the camera's user output
    host: str = ""  # where it is not light.host: 32 lines need several controllers
    #: Nominal current of the lamp, which intensity 1 gives; None leaves the rating that the controller holds.
    rated_current_a: float | None = Field(default=None, gt=0, le=20)
    #: Share of the rated current at intensity 1 when the line is strobed; a pulse bears more than continuous light.
    overdrive_percent: float = Field(default=100.0, gt=0, le=999)
    trigger_input: int | None = Field(default=None, ge=1, le=32)  # which input strobes it; None: the controller's own
    #: Output line of a camera, such as Line2: feeds the lamp (`camera_lines`), or is wired to `trigger_input`, so that
    #: the camera's sequencer can switch it between the exposures of a hardware trigger (`gardasoft`).
    camera_line: str = ""
    inverted: bool = False  # the trigger input or camera line is active when low


class LightSettings(_Section):
    """Which light controller, and which line is wired to which of its outputs.

    `lines` names the lines of a simulated light; a real one has those of `outputs`. In mode `continuous` the lines
    shine until they are switched; in mode `pulsed` they shine only while the camera exposes or as long as the
    channel's `strobe_us`, on a trigger that is wired from the camera to the controller.
    """

    driver: Literal["simulated", "gardasoft", "camera_lines"] = "simulated"
    lines: tuple[Name, ...] = _DEFAULT_LINES
    outputs: dict[Name, LightOutput] = Field(default_factory=dict, max_length=32)
    mode: Literal["continuous", "pulsed"] = "continuous"
    host: str = ""
    port: int = Field(default=30313, ge=1, le=65535)
    camera: Name = "camera"  # whose lines `camera_lines` switches, and whose exposure triggers strobed lines
    #: Output line of that camera which carries its exposure to the controller's trigger; empty: it is set otherwise.
    exposure_line: str = ""
    reply_timeout_s: float = Field(default=0.5, gt=0)
    keep_alive_s: float = Field(default=4.0, gt=0, lt=10)  # controllers close a connection that is idle for 10 s
    #: Continuous light that nobody switched for so long goes off: the program that wanted it has stalled.
    dark_after_s: float = Field(default=10.0, ge=0.3)  # tended five times a second on a trigger line
    settle_ms: float = Field(default=2.0, ge=0)  # how long a continuous line takes to reach its brightness
    pulse_delay_us: float = Field(default=20.0, ge=0)  # trigger to pulse; controllers clip what is too short

    @model_validator(mode="after")
    def _wired(self) -> Self:
        if not self.outputs:
            if self.driver != "simulated":
                raise ValueError(f"the light driver {self.driver} needs light.outputs, one for each line")
            return self
        if self.lines != _DEFAULT_LINES and set(self.lines) != set(self.outputs):
            raise ValueError("light.lines and light.outputs name different lines; leave light.lines out")
        if self.driver == "gardasoft":
            taken = [(output.host or self.host, output.channel) for output in self.outputs.values()]
            if any(not host for host, _ in taken):
                raise ValueError("the light driver gardasoft needs light.host, the controller's address")
            if len(set(taken)) != len(taken):
                raise ValueError("two lines of light.outputs are on the same channel of a controller")
            wires = [output.camera_line for output in self.outputs.values() if output.camera_line]
            if len(set(wires)) != len(wires) or (wires and self.mode == "continuous"):
                raise ValueError(
                    "camera_line of a gardasoft output is the camera's line that strobes it alone; give each output a "
                    'line of its own and set light.mode to "pulsed"'
                )
        if self.driver == "camera_lines":
            wires = [output.camera_line for output in self.outputs.values()]
            if not all(wires) or len(set(wires)) != len(wires):
                raise ValueError("the light driver camera_lines needs a camera_line of its own for each output")
            if len({output.channel for output in self.outputs.values()}) != len(wires):
                raise ValueError("the light driver camera_lines needs a channel (user output) of its own for each line")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the lines."""
        return tuple(self.outputs) or self.lines


class ArchiveSettings(_Section):
    """Which archived pictures are given up; the recipe says which are archived at all.

    The oldest go first. Pictures of seeds, backgrounds and parts that are held out never go, and the rows of those that
    went stay.
    """

    max_parts: int | None = Field(default=None, ge=1)  # of each recipe and outcome; None: as many as there is room for
    max_age_days: float | None = Field(default=None, gt=0)
    #: Below `minimum_free_mb` the oldest are given up, OK before FAULT before NG; False: nothing more is archived then.
    make_room: bool = True


class DriftSettings(_Section):
    """One thing about an emulated cell that changes, from part `start_part` on and over so many parts (0: at once)."""

    kind: Literal["lamp", "gain", "defocus", "material", "fixture"]
    start_part: int = Field(default=0, ge=0)
    over_parts: int = Field(default=0, ge=0)
    #: lamp: share of its light lost; gain: relative change; defocus: radius of the blur in px; material: number of the
    #: batch; fixture: shift to the right in mm.
    amount: float = Field(default=0.0, gt=-1)
    amount_y: float = 0.0  # fixture: shift downward in mm
    turn_deg: float = 0.0  # fixture
    line: Name | None = None  # lamp: which; None: all

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.kind in {"lamp", "defocus", "material"} and self.amount < 0:
            raise ValueError(f"a drift of kind {self.kind} has an amount of 0 or more")
        return self


class EmulatedCellSettings(_Section):
    """The part feeder of an emulated cell; read by the emulating drivers only."""

    #: "folder", "plate-K" (K lights) or a rendered product with its lights, such as disc-4+ring; docs/emulated-cell.md.
    product: str = "plate"
    folder: Path | None = None  # images of parts, in the layout of docs/data-layout.md
    random_seed: int = Field(default=1, ge=0)
    height: int | None = Field(default=None, ge=32)  # of a rendered product's picture in px; None: its own size
    width: int | None = Field(default=None, ge=32)
    bit_depth: Literal[8, 10, 12] = 8  # of the emulated sensor
    drift: tuple[DriftSettings, ...] = ()
    #: For tests and benchmarks of the simulated camera: part, channel and frame number in a corner of every frame.
    mark_frames: bool = False
    album_mb: float = Field(default=0.0, ge=0)  # pictures that it shows again instead of rendering each anew
    sensor: Path | None = None  # a named pipe that fires its trigger line


class EngineSettings(_Section):
    """Which accelerator judges. Providers are tried in order; none that is missing is passed over silently."""

    backend: Literal["onnxruntime", "tensorrt"] = "onnxruntime"
    providers: tuple[Literal["cpu", "cuda", "tensorrt"], ...] = ("cpu",)
    threads: int = Field(default=1, ge=1)


class WireSettings(_Section):
    """Addresses. Anything that is not ipc or loopback needs `keys`: a folder with the CURVE server key and client
    keys."""

    commands: str = "ipc:///run/inspectd/commands"
    events: str = "ipc:///run/inspectd/events"
    trainer_commands: str = "ipc:///run/inspectd/trainer"
    trainer_events: str = "ipc:///run/inspectd/trainer-events"
    keys: Path | None = None


class ProcessSettings(_Section):
    """The monitor that tells when material, tools, light, lens or camera are no longer what they were."""

    watch: bool = True
    most_cpu: float = Field(default=0.1, gt=0, le=1)  # of one processor; on faster lines parts are passed over


class WebSettings(_Section):
    """The review and live pages."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    #: Where a reverse proxy that authenticates shows the pages to other machines, e.g. https://cell7.example.
    public_origin: str = ""


class TrainerSettings(_Section):
    """How much of the box the trainer may take."""

    threads: int = Field(default=2, ge=1)
    niceness: int = Field(default=19, ge=0, le=19)
    base_folder: Path | None = None  # generator bases; the shipped ones when absent
    checkpoint_folder: Path | None = None  # a local Stable-Diffusion-class inpainting checkpoint, optional


class Settings(BaseSettings):
    """All settings of one cell."""

    model_config = SettingsConfigDict(
        env_prefix="INSPECTD_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    cell_name: Name = "cell"
    state_dir: Path = Path("/var/lib/inspectd")
    recipes_dir: Path = Path("/etc/inspectd/recipes")
    minimum_free_mb: int = Field(default=500, ge=0)
    light_sleep: bool = True  # of the processors, while a recipe is prepared: quicker answers for more power
    archive: ArchiveSettings = ArchiveSettings()
    camera: CameraSettings = CameraSettings()
    cameras: dict[Name, CameraSettings] = Field(default_factory=dict)  # further ones, which channels name
    light: LightSettings = LightSettings()
    emulated: EmulatedCellSettings = EmulatedCellSettings()
    engine: EngineSettings = EngineSettings()
    wire: WireSettings = WireSettings()
    process: ProcessSettings = ProcessSettings()
    web: WebSettings = WebSettings()
    trainer: TrainerSettings = TrainerSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the library's signature)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment before the file that :func:`load` passes as initial values."""
        return env_settings, init_settings


def load(path: Path | None = None) -> Settings:
    """Read the settings from `path`, ``$INSPECTD_CONFIG`` or :data:`DEFAULT_FILE` (which alone may be absent).

    Raises `ConfigurationError` naming the file, the key and what is allowed.
    """
    named = path or (Path(os.environ["INSPECTD_CONFIG"]) if "INSPECTD_CONFIG" in os.environ else None)
    file = named or DEFAULT_FILE
    values: dict[str, object] = {}
    if named is not None or file.exists():
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(
                f"can't read the settings file {file}: {error.strerror}; check the path"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the settings file {file} is not valid TOML: {error}") from error
    # pydantic-settings reads names in any case.
    environment = {key: value for key, value in os.environ.items() if key.upper().startswith("INSPECTD_")}
    _refuse_unknown_environment(environment)
    try:
        return Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigurationError(_first(error, file, environment)) from error
    except SettingsError as error:
        raise ConfigurationError(
            f"{error}: a whole section is given as JSON; set single keys, such as INSPECTD_WEB__PORT=8090"
        ) from error


#: Variables with our prefix that are not settings.
_OTHER_VARIABLES = frozenset({"INSPECTD_CONFIG", "INSPECTD_DEMO_DATA"})


#: Types of settings that have no keys of their own.
_PLAIN = frozenset({str, int, float, bool, Path, Name})


def _refuse_unknown_environment(environment: dict[str, str]) -> None:
    # pydantic-settings passes over environment variables it does not know; a spelling error would look like a default.
    for variable in environment:
        if variable in _OTHER_VARIABLES:
            continue
        first, *rest = variable.upper().removeprefix("INSPECTD_").lower().split("__")
        field = Settings.model_fields.get(first)
        # A key of what is no section would be passed over as well.
        if field is None or (rest and field.annotation in _PLAIN):
            known = ", ".join(sorted(Settings.model_fields))
            raise ConfigurationError(f"unknown environment variable {variable}; settings are: {known}")


def _first(error: ValidationError, file: Path, environment: dict[str, str]) -> str:
    detail = error.errors()[0]
    key = ".".join(str(part) for part in detail["loc"]) or "settings"
    wrong = "there is no such key" if detail["type"] == "extra_forbidden" else detail["msg"].lower()
    variable = "INSPECTD_" + "__".join(str(part) for part in detail["loc"]).upper()
    source = variable if variable in environment else str(file)
    return f"wrong settings in {source}: {key}: {wrong}; docs/settings.md lists them"
