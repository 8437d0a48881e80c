"""``inspectctl camera focus`` and ``stream``: figures of frames as they come, in place on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cell.clock import monotonic
from cell.errors import HardwareError, StateError
from cell.recipes import Rect
from daemon.ctl import bench, camera, render
from daemon.ctl.camera import ChannelOption, ExposureOption, GainOption, Name, PartOption, RecipeOption
from daemon.ctl.session import Session, session_of

Facts = dict[str, Any]

_BAR = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"
#: Below this share of the best figure the lens has been turned past the focus; above, noise may be what differs.
_PAST = 0.97
#: Rounds that are asked for at a time: a daemon lets the line go on after half a second anyway.
_ROUNDS = 16
#: Nobody turns a lens faster than this can be followed, and the line must get its turn.
_UPDATE_S = 0.1
#: How long a display waits for its turn between parts, seconds.
_PARTS_PASS_S = 3.0
#: So many requests in a row that gave no frame end a stream: a camera that is gone does not come back by asking.
_PATIENCE = 5


def register(group: typer.Typer) -> None:
    """Add the commands of this module to ``inspectctl camera``."""
    group.command()(focus)
    group.command()(stream)


def focus(  # noqa: PLR0913, PLR0917 (each is an option on the command line)
    context: typer.Context,
    name: Name = "",
    recipe: RecipeOption = "",
    channel: ChannelOption = None,
    exposure: ExposureOption = None,
    gain: GainOption = None,
    part: PartOption = "",
    region: Annotated[str, typer.Option(help="x,y,width,height in pixels; default the middle, 1024 px at most.")] = "",
    count: Annotated[int | None, typer.Option("-n", "--count", min=1, help="Updates; default until Ctrl-C.")] = None,
) -> None:
    """Show how sharp each channel is while you turn the lens, beside the best so far.

    The figure is Tenengrad over the squared mean: comparable as long as part, light and region stay the same.
    """
    session = session_of(context)
    asked = camera.request(name, recipe, channel, exposure, gain, part, region_of(region))
    best: dict[str, float] = {}
    last: list[Facts] = []
    with bench.opened(session) as hardware, _display(session) as show:
        take = _between_parts(hardware.take)
        for frames in _rounds(lambda: take(asked, None), count):
            last = frames
            for frame in frames:
                best[frame["channel"]] = max(best.get(frame["channel"], 0.0), frame["sharpness"])
            if session.as_json:
                render.json_line({"frames": [frame | {"best": best[frame["channel"]]} for frame in frames]})
            else:
                show(_lens(frames, best))
    if not session.as_json and last:
        rows = [(f["channel"], f"{f['sharpness']:.3e}", f"{best[f['channel']]:.3e}", _share(f, best)) for f in last]
        render.table(("CHANNEL", "SHARPNESS", "BEST", "OF BEST"), rows, "")


def stream(  # noqa: PLR0913, PLR0917 (as above)
    context: typer.Context,
    name: Name = "",
    recipe: RecipeOption = "",
    channel: ChannelOption = None,
    exposure: ExposureOption = None,
    gain: GainOption = None,
    part: PartOption = "",
    save: Annotated[Path | None, typer.Option(help="Keep every frame in this folder, as TIFF.")] = None,
    frames: Annotated[int | None, typer.Option("-n", "--frames", min=1, help="End after so many.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="End after so long.")] = None,
) -> None:
    """Take frames as fast as they come: rate, losses, and the levels of each channel.

    Ends with 74 when frames were lost. Without --frames and --seconds it goes on until Ctrl-C.
    """
    session = session_of(context)
    asked = camera.request(name, recipe, channel, exposure, gain, part)
    asked |= {"save": "frames"} if save else {}
    tally = Tally()
    began = monotonic()
    try:
        with bench.opened(session) as hardware, _display(session) as show:
            take = _between_parts(hardware.take)
            while not tally.enough(frames) and not (seconds and monotonic() - began >= seconds):
                rounds = tally.rounds(frames)
                taken = tally.add(lambda: take(asked | {"count": rounds}, save))  # noqa: B023
                if session.as_json and taken:
                    render.json_line({"frames": taken["frames"], "lost": taken["lost"], "failures": taken["failures"]})
                elif not session.as_json:
                    show(tally.shown())
    except KeyboardInterrupt:
        pass  # how a person ends it
    if session.as_json:
        render.json_line({"summary": tally.summary()})
    else:
        render.table(
            ("CHANNEL", "FRAMES", "MIN", "MEAN", "MAX", "AT 0", "SATURATED", "WORST"), tally.rows(), "no frames"
        )
        render.facts(tally.facts())
    if tally.lost or tally.failed:
        raise typer.Exit(HardwareError.exit_code)


@dataclass
class _Channel:
    frames: int = 0
    low: int = 1 << 16
    high: int = 0
    mean_sum: float = 0.0
    worst: float = 0.0
    last: Facts = field(default_factory=dict)

    def add(self, frame: Facts) -> None:
        self.frames += 1
        self.low, self.high = min(self.low, frame["low"]), max(self.high, frame["high"])
        self.mean_sum += frame["mean"]
        self.worst = max(self.worst, frame["clipped_share"])
        self.last = frame


@dataclass
class Tally:
    """What a stream has given so far. The rate is over the time in which frames were taken, not measured."""

    frames: int = 0
    lost: int = 0
    failed: int = 0
    seconds: float = 0.0
    saved: int = 0
    failures: list[str] = field(default_factory=list)
    channels: dict[str, _Channel] = field(default_factory=dict)
    _in_vain: int = 0

    def add(self, take: Callable[[], Facts]) -> Facts:
        """Take once and count it; return what came. Raises `HardwareError` when nothing comes any more."""
        try:
            taken = take()
        except HardwareError as error:
            self._in_vain += 1
            self._fail([str(error)])
            if self._in_vain >= _PATIENCE:
                raise
            return {}
        self._in_vain = 0
        self.frames += len(taken["frames"])
        self.lost += taken["lost"]
        self.seconds += taken["seconds"]
        self.saved += len(taken["paths"])
        self._fail(taken["failures"])
        for frame in taken["frames"]:
            self.channels.setdefault(frame["channel"], _Channel()).add(frame)
        return taken

    def rounds(self, wanted: int | None) -> int:
        """Return how many rounds over the channels to ask for next."""
        if wanted is None:
            return _ROUNDS
        left = -(-(wanted - self.frames - self.failed) // max(1, len(self.channels)))
        return max(1, min(_ROUNDS, left)) if self.channels else 1

    def enough(self, wanted: int | None) -> bool:
        """Tell whether so many frames have come, or failed to."""
        return wanted is not None and self.frames + self.failed >= wanted

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds if self.seconds else 0.0

    def facts(self) -> list[tuple[str, object]]:
        """Return names and values for a person."""
        return [
            ("frames", self.frames),
            ("rate", f"{self.rate:.1f} frames/s"),
            ("lost", self.lost),
            ("failed", f"{self.failed}: {self.failures[-1]}" if self.failed else 0),
            ("saved", self.saved or ""),
        ]

    def rows(self) -> list[tuple[object, ...]]:
        """Return a row for each channel: extremes and mean of all frames, clipping of the last and of the worst."""
        return [
            (
                name,
                each.frames,
                each.low,
                f"{each.mean_sum / each.frames:.1f}",
                each.high,
                camera.percent(each.last["dark_share"]),
                camera.clipped(each.last),
                camera.percent(each.worst),
            )
            for name, each in self.channels.items()
        ]

    def summary(self) -> Facts:
        """Return all of it as JSON."""
        return {
            "frames": self.frames,
            "frames_per_s": round(self.rate, 2),
            "lost": self.lost,
            "failed": self.failed,
            "saved": self.saved,
            "channels": {
                name: {
                    "frames": each.frames,
                    "low": each.low,
                    "high": each.high,
                    "mean": round(each.mean_sum / each.frames, 3),
                    "worst_clipped_share": each.worst,
                }
                for name, each in self.channels.items()
            },
        }

    def shown(self) -> Group:
        """Return the present state for a terminal."""
        head = f"{self.frames} frames  {self.rate:.1f} frames/s  lost {self.lost}  failed {self.failed}"
        grid = _grid("CHANNEL", "MIN", "MEAN", "MAX", "AT 0", "SATURATED")
        for name, each in self.channels.items():
            last = each.last
            cells = (last["low"], f"{last['mean']:.1f}", last["high"], camera.percent(last["dark_share"]))
            grid.add_row(name, *map(str, cells), camera.clipped(last))
        problem = [Text(f"! {self.failures[-1]}", style="yellow")] if self.failures else []
        return Group(Text(head, style="bold red" if self.lost or self.failed else "bold"), grid, *problem)

    def _fail(self, sentences: list[str]) -> None:
        self.failed += len(sentences)
        self.failures = (self.failures + sentences)[-20:]


def region_of(text: str) -> Rect | None:
    """Return the region that was typed. Raises `typer.BadParameter`."""
    if not text:
        return None
    try:
        x, y, width, height = (int(word) for word in text.split(","))
        return Rect(x=x, y=y, width=width, height=height)
    except ValueError as error:
        raise typer.BadParameter(f"the region {text} must be x,y,width,height in pixels") from error


def bar(share: float, width: int = _BAR) -> str:
    """Return a bar of eighths of a character, full at 1."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()).ljust(width)


def _between_parts(take: Callable[[Facts, Path | None], Facts]) -> Callable[[Facts, Path | None], Facts]:
    """Return `take` that waits for its turn when parts come first, and gives up when they don't end: a run is on."""

    def patiently(asked: Facts, folder: Path | None) -> Facts:
        until = monotonic() + _PARTS_PASS_S
        while True:
            try:
                return take(asked, folder)
            except StateError:
                if monotonic() >= until:
                    raise
                time.sleep(_UPDATE_S)

    return patiently


def _rounds(take: Callable[[], Facts], count: int | None) -> Iterator[list[Facts]]:
    number = 0
    try:
        while count is None or number < count:
            began = monotonic()
            number += 1
            yield take()["frames"]
            if number != count:
                time.sleep(max(0.0, _UPDATE_S - (monotonic() - began)))
    except KeyboardInterrupt:
        return  # how a person ends it


def _lens(frames: list[Facts], best: dict[str, float]) -> Group:
    grid = _grid("CHANNEL", "SHARPNESS", "BEST", "", "OF BEST", "CLIPPED")
    for frame in frames:
        share = frame["sharpness"] / best[frame["channel"]] if best[frame["channel"]] else 0.0
        style = "green" if share >= _PAST else "yellow"
        clipped = camera.percent(frame["clipped_share"])
        grid.add_row(
            frame["channel"],
            f"{frame['sharpness']:.3e}",
            f"{best[frame['channel']]:.3e}",
            Text(bar(share), style=style),
            Text(_share(frame, best), style=style),
            Text(clipped, style="red" if frame["clipped_share"] > 1e-3 else ""),
        )
    return Group(grid, Text("turn the lens; Ctrl-C ends. Yellow: past the best, turn back.", style="dim"))


def _share(frame: Facts, best: dict[str, float]) -> str:
    top = best[frame["channel"]]
    return f"{100 * frame['sharpness'] / top:.0f} %" if top else "-"


def _grid(*headers: str) -> Table:
    grid = Table(box=None, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, header in enumerate(headers):
        grid.add_column(header, justify="left" if index == 0 else "right", no_wrap=True)
    return grid


class _display:  # noqa: N801 - used as a context manager
    """Shows what is given in one place on a terminal; away from one, nothing but the end is shown."""

    def __init__(self, session: Session) -> None:
        console = render.console(stderr=True)
        is_terminal = console.is_terminal and not session.as_json
        self._live = Live(console=console, auto_refresh=False, transient=True) if is_terminal else None

    def __enter__(self) -> Callable[[Group], None]:
        if self._live is None:
            return lambda _: None
        live = self._live
        live.start()
        return lambda shown: live.update(shown, refresh=True)

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
