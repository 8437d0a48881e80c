"""The report: one HTML page with its pictures inside, and the same facts as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from benchmarks.demo.pictures import Picture
from benchmarks.demo.results import DemoReport
from cell.models import RateBound


@dataclass(frozen=True, slots=True)
class Group:
    """The pictures of one class: one row a channel."""

    title: str
    rows: tuple[tuple[Picture, ...], ...]


def write(
    report: DemoReport,
    folder: Path,
    *,
    gallery: Sequence[Group],
    curves: str,
    misses: Sequence[Picture],
    alarms: Sequence[Picture],
) -> Path:
    """Write ``report.json`` and ``report.html`` into `folder`; return the page's path.

    :param curves: calibration curves as SVG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.j2").render(
        r=report,
        failures=report.failures(),
        gallery=gallery,
        curves=curves,
        misses=misses,
        alarms=alarms,
        number=_number,
        rate=_rate,
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _rate(bound: RateBound) -> str:
    if bound.rate is None:
        return "no such parts"
    return f"{bound.count} of {bound.parts} = {bound.rate:.1%}, below {bound.upper_95 or 1.0:.1%} (95 %)"
