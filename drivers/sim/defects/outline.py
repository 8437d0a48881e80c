"""Defects of the outline: chip, burr, bent edge, warped outline. They sit on a rim."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from drivers.sim.defects.site import Generator, Material, Parameters, Ragged, Site, recover_outline, smooth_step
from drivers.sim.render.textures import Waves, course

_TOOTH_MM = 0.09  # grain of a burr's jags


def chip(site: Site, generator: Generator, severity: float) -> Parameters:
    """A piece broken out of the edge, 0.35 to 1.1 mm across: a facetted, matt wound that runs down and out."""
    radius, stretch = float(generator.uniform(0.35, 1.1)) * float(severity**0.5), float(generator.uniform(1.0, 1.6))
    outline = Ragged(generator, radius, 0.09, stretch)
    facets, grain = Waves(generator, 0.5 * radius), Waves(generator, 0.12 * radius)
    angle = float(generator.uniform(0.5, 1.0))  # slope of the wound
    window = site.window(2.5 * radius * stretch)
    x, y = site.local(window)
    ratio = outline.ratio(x, y)
    work = site.work
    into = np.clip(1 - ratio, 0, None) * np.float32(1000 * radius * angle)
    wound = smooth_step((1 - ratio) * 14)
    torn = into * (1 + 0.16 * facets.at(x, y)) + 22 * wound * np.abs(facets.at(x, y)) + 5 * wound * grain.at(x, y)
    depth = min(0.55 * 1000 * radius * angle, 0.9 * work.thickness_um)
    # Where the wound goes down to the bottom of the part, the outline itself gives way.
    gone = np.asarray((torn - depth) / np.float32(1000 * angle), np.float32)
    work.height_um[window] -= np.asarray(np.minimum(torn, depth * 1.4), np.float32)
    work.inside_mm[window] = np.minimum(work.inside_mm[window], np.where(ratio < 1, -gone, np.inf))
    recover_outline(site, window)
    below = site.beneath
    fracture = Material(below.albedo, 0.8 * below.specular, min(1.6 * below.roughness, 0.6))
    site.reveal(window, np.asarray(0.95 * wound, np.float32), fracture)
    return {"radius_mm": radius, "depth_um": depth, "slope": angle, "stretch": stretch}


def burr(site: Site, generator: Generator, severity: float) -> Parameters:
    """Torn metal or flash along the edge, 1.0 to 2.8 mm long: it stands up and out, jagged and bright."""
    length = float(generator.uniform(1.0, 2.8))
    out, up = float(generator.uniform(0.08, 0.24)) * severity, float(generator.uniform(40, 120)) * severity
    window = site.window(length)
    along, outward = site.at_rim(window)
    places = np.linspace(-length, length, 256)
    # A flag that stands up and sinks along the edge, torn into jags.
    grain = _TOOTH_MM / (2 * length / 256)
    teeth = 0.6 * course(generator, 256, grain) + 0.8 * course(generator, 256, 4 * grain)
    span = np.clip(1 - np.square(2 * along / np.float32(length)), 0, 1)
    tooth = np.interp(along, places, teeth).astype(np.float32)
    reach = np.float32(out) * np.sqrt(span) * np.clip(0.8 + 0.3 * tooth, 0.35, 1.5)
    there = span > 0
    work = site.work
    inside = work.inside_mm[window]
    lip = np.exp(-np.square(np.maximum(inside, 0) / np.float32(0.07))) * np.sqrt(span)
    crest = np.float32(up) * lip * np.clip(0.8 + 0.3 * tooth, 0.4, 1.6)
    beyond = (inside < 0) & (-inside < reach + 0.1) & there & (outward > -0.6)
    level = work.height_um[window]
    # Beyond the old edge the burr goes on at the height that the edge has there, drooping toward its tip.
    edge = (inside >= 0) & (inside < 2.5 * site.canvas.step_mm) & there
    base = float(np.median(level[edge])) if edge.any() else 0.0
    droop = np.clip(-inside / np.maximum(reach, np.float32(1e-3)), 0, 1)
    level[beyond] = (np.float32(base) + crest * (1 - np.square(droop) * 0.6))[beyond]
    level[~beyond] += crest[~beyond]
    work.inside_mm[window] = np.where(
        there & (outward > -0.6), np.maximum(inside, np.minimum(inside + reach, reach)), inside
    )
    recover_outline(site, window)
    torn = Material(min(1.15 * site.beneath.albedo, 0.9), site.beneath.specular, max(site.beneath.roughness, 0.3))
    share = np.where(beyond, 1, lip * 0.8) * (span > 0)
    site.reveal(window, np.asarray(np.clip(share, 0, 1), np.float32), torn)
    return {"length_mm": length, "out_um": 1000 * out, "height_um": up}


def bend(site: Site, generator: Generator, severity: float) -> Parameters:
    """An edge bent up or down over 1.6 to 4.5 mm by 70 to 360 um: no mark on it, only another slope."""
    length, width = float(generator.uniform(1.6, 4.5)), float(generator.uniform(0.8, 2.0))
    lift = float(generator.choice([-1, 1]) * generator.uniform(90, 180)) * width * severity
    window = site.window(length + width)
    # Away from this edge, not from the outline: a hole near by stays as it is.
    along, outward = site.at_rim(window)
    span = np.square(np.cos(np.clip(along / np.float32(length), -0.5, 0.5) * np.float32(np.pi)))
    lever = np.square(np.clip(1 + outward / np.float32(width), 0, 1.5))
    site.work.height_um[window] += np.asarray(lift * span * lever, np.float32)
    return {"length_mm": length, "width_mm": width, "height_um": lift}


def warp(site: Site, generator: Generator, severity: float) -> Parameters:
    """An outline out of its tolerance: bulged or flattened by 120 to 340 um over 2 to 5 mm, with all beside it."""
    length, width = float(generator.uniform(2.0, 5.0)), float(generator.uniform(0.7, 1.4))
    out = float(generator.choice([-1, 1]) * generator.uniform(0.12, 0.34)) * severity
    window = site.window(length)
    along, outward = site.at_rim(window)
    inside = site.work.inside_mm[window]
    near = smooth_step(np.asarray(1.6 - np.abs(inside) / np.float32(width), np.float32)) * (outward > -width - abs(out))
    moved = (
        np.float32(out) * np.square(np.cos(np.clip(along / np.float32(length), -0.5, 0.5) * np.float32(np.pi))) * near
    )
    angle = site.outward_rad + site.canvas.turn_rad
    rows, columns = np.mgrid[window[0], window[1]].astype(np.float32)
    shift = moved / np.float32(site.canvas.step_mm)
    source = [
        rows - window[0].start - shift * np.float32(np.sin(angle)),
        columns - window[1].start - shift * np.float32(np.cos(angle)),
    ]
    work = site.work
    fields = [work.height_um, work.albedo, work.specular, work.along, work.inside_mm]
    if work.across is not work.along:
        fields.append(work.across)
    for values in fields:
        values[window] = ndimage.map_coordinates(values[window], source, order=1, mode="nearest")
    recover_outline(site, window)
    return {"length_mm": length, "out_um": 1000 * out}
