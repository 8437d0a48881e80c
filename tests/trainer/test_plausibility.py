"""Doubt and diversity: bad candidates come up early, copies are told, a generator that paints one thing is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import ndimage

from cell.calibration import Calibration, CalibrationKind, ChannelCalibration, Illumination
from cell.defects import Candidate, Draft, ImageRef, Mask
from cell.frames import Stack
from cell.imaging import contrast
from cell.recipes import Rect
from drivers.sim.products.catalogue import PRODUCTS
from drivers.sim.render.lamps import rig
from drivers.sim.sensor import Sensor
from drivers.sim.studio import EXPOSURE_US, Order, StudioProduct, recipe_for
from trainer import doubt
from trainer.generate.arm import Arm
from trainer.generate.base import Appearance, BackgroundSample, GenerateRequest, Scene, SeedSample, Shape
from trainer.generate.candidates import allowed_places
from trainer.generate.copypaste import CopyPaste
from trainer.generate.diversity import diversity
from trainer.generate.looks import Look, look_at
from trainer.generate.making import Maker
from trainer.generate.plausibility import Fingerprint, Judge
from trainer.generate.procedural import Procedural
from trainer.planted import spoil


def rendered() -> tuple[Scene, dict[str, list[SeedSample]]]:
    """Render the emulated cell's good parts and defects of two classes, of all severities, under four lights."""
    sensor = Sensor.of_depth(BIT_DEPTH)
    product = StudioProduct(PRODUCTS["brushed"], rig("4"), size=(SIDE, SIDE), sensor=sensor)
    recipe = recipe_for(product, "plate")
    classes = tuple(one for one in recipe.defect_classes if one.name in CLASSES)
    recipe = recipe.model_copy(update={"height": SIDE, "width": SIDE, "defect_classes": classes})

    def taken(part_id: str, orders: Sequence[Order] = ()) -> tuple[Stack, Mask]:
        part, noise = product.make(part_id, orders), np.random.default_rng(7)
        stack = np.stack([part.expose({line: 1.0}, EXPOSURE_US, 0.0, noise) for line in product.lines])
        return stack.astype(np.uint16), part.defects[0].mask if orders else np.zeros((SIDE, SIDE), np.bool_)

    backgrounds = []
    for index in range(2):
        stack = taken(f"good-{index:06d}")[0]
        backgrounds.append(BackgroundSample(f"b{index}", f"p{index}", stack, allowed_places(recipe, stack)))
    seeds: dict[str, list[SeedSample]] = {}
    for place, name in enumerate(CLASSES):
        for index in range(5):
            part_id = f"good-{100 + 10 * place + index:06d}"
            stack, mask = taken(part_id, (Order(name, severity=0.8 + 0.3 * index),))
            seeds.setdefault(name, []).append(SeedSample(f"{name}{index}", part_id, name, stack, mask))
    flat = Illumination(grid=((1.0,),), mean_dn=0.4 * sensor.saturation_dn)
    calibration = Calibration(
        calibration_id="c1",
        recipe_id="plate",
        kind=CalibrationKind.MEASURED,
        channels=tuple(
            ChannelCalibration(channel=name, noise=sensor.noise_model(), illumination=flat, psf_sigma_px=0.8)
            for name in recipe.channel_names
        ),
        frames_used=16,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    by_class = {name: tuple(own) for name, own in seeds.items()}
    return Scene(recipe, calibration, by_class, tuple(backgrounds)), seeds


SIDE, BIT_DEPTH, CLASSES = 224, 12, ("pit", "stain")
SCENE, SEEDS = rendered()
BY_ID = {one.background_id: one for one in SCENE.backgrounds}


class OneTrick(Procedural):
    """A generator that collapsed: whatever it is asked, it paints the same."""

    def appearance(
        self, window: Stack, shape: Shape, severity: float, defect_class: str, rng: np.random.Generator
    ) -> Appearance:
        del shape, defect_class, rng
        return Appearance(np.full(window.shape, -0.4 * severity, np.float32), 1.0, 0.0)


@pytest.fixture(scope="module")
def looks() -> Mapping[str, list[Look]]:
    return {name: [look_at(seed, SCENE) for seed in own] for name, own in SEEDS.items()}


@pytest.fixture(scope="module")
def judge(looks: Mapping[str, list[Look]]) -> Judge:
    return Judge(SCENE, looks)


def made(arm: Arm, looks: Mapping[str, list[Look]], each: int) -> list[Draft]:
    adapters = {name: arm.fit(name, own, lambda _: None, lambda: False) for name, own in looks.items()}
    request = GenerateRequest(arm=arm.name, per_class=each, random_seed=5)
    maker = Maker(arm, SCENE, request, looks, adapters)
    return [maker.candidate(name, number) for number in range(each) for name in looks]


def prints_of(judge: Judge, drafts: list[Draft]) -> list[Fingerprint]:
    return [one for draft in drafts for one in judge.scores(draft, BY_ID[draft.provenance.background_id])[1]]


def kept(number: int, draft: Draft) -> Candidate:
    nothing = ImageRef(path="x", digest="x")
    return Candidate(
        candidate_id=f"c{number:06d}",
        job_id="t00001",
        recipe_id="plate",
        defect_class=draft.defect_class,
        image=nothing,
        mask=nothing,
        box=Rect(x=0, y=0, width=1, height=1),
        severity=draft.severity,
        scores=draft.scores,
        provenance=draft.provenance,
        planted_bad=draft.planted_bad,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_bad_ones_come_earlier_than_by_chance_and_nothing_shown_tells_them(
    judge: Judge, looks: Mapping[str, list[Look]]
) -> None:
    candidates = []
    for number, genuine in enumerate(made(Procedural(SCENE), looks, 15)):
        background, draft = BY_ID[genuine.provenance.background_id], genuine
        if number % 10 == 7:
            rng = np.random.default_rng(number)
            draft = spoil(genuine, background.stack, background.allowed, BIT_DEPTH, rng)
        candidates.append(kept(number, replace(draft, scores=judge.scores(draft, background)[0])))
    places = [place for place, one in enumerate(doubt.ordered(candidates)) if one.planted_bad]
    assert np.mean(places) < 0.6 * (len(candidates) - 1) / 2
    # Chance is mixed in: being at the very front does not make one a known-bad one.
    assert sorted(places) != list(range(len(places)))
    shown = {one.candidate_id: doubt.ranks(one, candidates) for one in candidates}
    for name in doubt.LIMITS:
        bad = max(shown[one.candidate_id][name] for one in candidates if one.planted_bad)
        assert 0.0 <= bad <= 1.0
    doubts = [one.scores["doubt"] for one in candidates if not one.planted_bad]
    assert min(one.scores["doubt"] for one in candidates if one.planted_bad) > np.median(doubts)


def test_a_copy_of_a_seed_is_told_wherever_it_is_put(judge: Judge, looks: Mapping[str, list[Look]]) -> None:
    genuine = made(Procedural(SCENE), looks, 4)
    usual = [judge.scores(one, BY_ID[one.provenance.background_id])[0]["memorised"] for one in genuine]
    background = SCENE.backgrounds[1]
    for look in looks["pit"][:3]:
        top, left = look.corner[0] - 9, look.corner[1] + 7
        window = slice(top, top + look.distance.shape[0]), slice(left, left + look.distance.shape[1])
        mask = np.zeros((SIDE, SIDE), np.bool_)
        mask[window] = ndimage.binary_dilation(look.distance > 0, iterations=1)
        pasted = np.zeros((4, SIDE, SIDE), np.float32)
        pasted[:, window[0], window[1]] = look.contrast
        painted = contrast.apply(background.stack.astype(np.float32), pasted, BIT_DEPTH)
        stack = np.where(mask, np.clip(np.rint(painted), 0, 4095), background.stack).astype(np.uint16)
        copy = replace(genuine[0], stack=stack, mask=mask, support=mask, regions=())
        assert copy.defect_class == "pit"
        scores = judge.scores(copy, background)[0]
        assert scores["memorised"] < 0.15 < min(usual)  # where doubt is whole
        assert scores["doubt"] > 0.5


def test_a_collapsed_generator_is_named_and_others_are_not(judge: Judge, looks: Mapping[str, list[Look]]) -> None:
    for arm in (Procedural(SCENE), CopyPaste()):
        told = diversity(prints_of(judge, made(arm, looks, 8)), judge.classes)
        assert [one["defect_class"] for one in told] == ["pit", "stain"]
        assert not any("finding" in one for one in told), told
    for one in diversity(prints_of(judge, made(OneTrick(SCENE), looks, 8)), judge.classes):
        assert "has collapsed for " + one["defect_class"] in one["finding"]
    # One candidate over and over, in its outline too.
    same = prints_of(judge, made(Procedural(SCENE), looks, 1)) * 8
    assert all(one["apart"] < 0.01 and "finding" in one for one in diversity(same, judge.classes))


def test_a_generator_that_copies_is_named(judge: Judge) -> None:
    known = judge.classes["pit"]
    copies = [
        Fingerprint("pit", print_, look)
        for print_, look in zip(known.seeds, known.appearances, strict=True)
        for _ in range(2)
    ]
    (told,) = diversity(copies, judge.classes)
    assert told["copies"] == 1.0
    assert told["nearest_seed"] < 0.1
    assert "finding" in told
    assert diversity(copies[:5], judge.classes) == [], "too few to say anything"


def test_what_was_asked_and_never_made_lowers_the_coverage(judge: Judge, looks: Mapping[str, list[Look]]) -> None:
    prints = [one for one in prints_of(judge, made(Procedural(SCENE), looks, 6)) if one.defect_class == "pit"]
    asked = {"defect_class": "pit", "target": "size", "asked": [4, 4, 0, 4], "made": [6, 5, 1, 0]}
    assert diversity(prints, judge.classes, [asked])[0]["asked_covered"] == pytest.approx(0.667, abs=1e-3)
