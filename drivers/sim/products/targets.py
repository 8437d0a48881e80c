"""Calibration targets that lie where parts lie: an even tile, a plate with dots and slanted edges, a matt ball."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drivers.sim.render.workpiece import Canvas, Workpiece, blank

#: Distance of the dots, mm, and by how much the square's edges are slanted, degrees (ISO 12233 asks for about 5).
DOT_PITCH_MM, SLANT_DEG = 1.0, 5.0
#: Radius of the ball's sphere, mm; a cap of 60 degrees of it stands out of the tile.
BALL_RADIUS_MM = 3.0


def _tile(canvas: Canvas, albedo: float) -> Workpiece:
    return blank(canvas, canvas.full(1e3), albedo=albedo, specular=0.0, roughness=1.0)


def _dots(canvas: Canvas, albedo: float) -> Workpiece:
    work = _tile(canvas, albedo)
    u, v, soft = canvas.u, canvas.v, np.float32(1 / canvas.step_mm)
    x, y = (axis - DOT_PITCH_MM * np.rint(axis / np.float32(DOT_PITCH_MM)) for axis in (u, v))
    ink = np.clip((0.25 - np.hypot(x, y)) * soft + 0.5, 0, 1)
    turn = np.deg2rad(SLANT_DEG)
    a, b = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    near = np.maximum(np.abs(a), np.abs(b))
    ink *= near > 3.2
    ink = np.maximum(ink, np.clip((2.0 - near) * soft + 0.5, 0, 1))
    work.albedo *= np.asarray(1 - 0.9 * ink, np.float32)
    return work


def _ball(canvas: Canvas, albedo: float) -> Workpiece:
    work = _tile(canvas, albedo)
    r = np.hypot(canvas.u, canvas.v)
    rim = BALL_RADIUS_MM * np.sin(np.pi / 3)
    rise = np.sqrt(np.maximum(BALL_RADIUS_MM**2 - np.minimum(r, rim) ** 2, 0)) - BALL_RADIUS_MM / 2
    work.height_um += np.asarray(1000 * rise, np.float32)
    return work


TARGETS: dict[str, Callable[[Canvas, float], Workpiece]] = {"flat": _tile, "target": _dots, "ball": _ball}
