"""One candidate: what is asked of it, one defect or several put on a background, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cell.defects import Draft, GeneratorParameters, Mask, Provenance
from cell.errors import JobError
from cell.frames import Stack
from cell.imaging.compositor import Composite, compose
from trainer.generate import plan
from trainer.generate.arm import Arm
from trainer.generate.base import Appearance, BackgroundSample, GenerateRequest, Scene, Shape
from trainer.generate.control import Asked, Control, further, order
from trainer.generate.drafts import Made, draft_of, draft_of_several, put
from trainer.generate.ground import Ground, ground_of
from trainer.generate.lay import folded
from trainer.generate.looks import Look
from trainer.generate.outlines import longest, orientation
from trainer.generate.relief import Lamps, agreed
from trainer.generate.severity import Gauge, median_strength, scaled
from trainer.generate.sharpness import Fitting, fitted, fitting_of, widened
from trainer.generate.streaks import under_defect

VERSION = "3"
#: Attempts for one candidate before the class is given up: almost every attempt succeeds.
_ATTEMPTS = 25
_LEAST_PIXELS = 4
#: Least share of the planned outline that must be seen to have changed.
_LEAST_SEEN = 0.5
_MOST_CLIPPED = 0.5
#: Attempts that insist on a surface as bright as some seed's, and by how much it may be brighter or darker than all of
#: them (in the logarithm): a defect that floats in the dark between two teeth is none. A class whose seeds lie on
#: another kind of surface altogether (another product's) is still made.
_CHOOSY, _BRIGHTER = 15, 0.5
#: Tries for a size, and how far the label may be off before the next (in the logarithm).
_SIZE_TRIES, _SIZE_TOLERANCE = 3, 0.04
#: What misses the size by more than that (in the logarithm) is not what was asked for.
_MOST_OFF = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class _Class:
    """What the maker keeps of a class."""

    looks: list[Look]
    outlines: list[plan.Outline]
    adapter_digest: str
    control: Control
    median: float  # strength of the median seed


class Maker:
    """Makes the candidates of a request, each from its number alone.

    :raises DataError: when what is asked of a class leaves no seed or no place for it.
    """

    def __init__(
        self,
        arm: Arm,
        scene: Scene,
        request: GenerateRequest,
        looks: Mapping[str, list[Look]],
        adapters: Mapping[str, str],
    ) -> None:
        self._arm, self._scene, self._request = arm, scene, request
        self._calibration_digest = scene.calibration.record_digest()
        self._grounds: dict[tuple[str, str], Ground] = {}
        self._classes = {
            name: _Class(
                looks=own,
                outlines=[look.outline for look in own],
                adapter_digest=adapters[name],
                control=request.control_of(name),
                median=median_strength(own),
            )
            for name, own in looks.items()
        }
        for name, kept in self._classes.items():
            plan.suitable(kept.outlines, kept.control, name)

    def candidate(self, defect_class: str, number: int) -> Draft:
        """Return candidate `number` of a class. Raises `JobError` when many attempts give nothing usable."""
        kept = self._classes[defect_class]
        entropy = (self._request.random_seed, self._scene.recipe.class_names.index(defect_class))
        asked = order(kept.control, entropy, number, self._request.per_class)
        names = (defect_class,) * (asked.count - 1) + asked.together
        refused: Counter[str] = Counter()
        for attempt in range(_ATTEMPTS):
            # Each attempt has its own stream, so that a refusal changes nothing else.
            rng = np.random.default_rng([*entropy, number, attempt])
            background = self._scene.backgrounds[int(rng.integers(len(self._scene.backgrounds)))]
            told = {"number": float(number), "attempt": float(attempt)}
            first = self._defect(defect_class, background, background.stack, asked.first, None, rng, told)
            if isinstance(first, str):
                refused[first] += 1
                continue
            if not names:
                return draft_of(background, first)
            several = self._several(first, names, background, rng, told)
            if not isinstance(several, str):
                return several
            refused[several] += 1
        reasons = ", ".join(f"{count} times {reason}" for reason, count in refused.most_common())
        wanted = ", ".join(f"{name} {value:.3g}" for name, value in asked.first.told().items())
        advice = f"what was asked ({wanted}) can't be had; ask for less" if wanted else "check its seeds"
        raise JobError(f"class {defect_class} gave no usable candidate in {_ATTEMPTS} attempts ({reasons}); {advice}")

    def _several(
        self,
        first: Made,
        names: Sequence[str],
        background: BackgroundSample,
        rng: np.random.Generator,
        told: Mapping[str, float],
    ) -> Draft | str:
        """Put more defects beside the first; return the reason when one of them can't be."""
        stack, taken = background.stack.copy(), np.zeros(background.allowed.shape, np.bool_)
        put(first, stack, taken)
        regions = [first]
        for name in names:
            asked = further(self._classes[name].control, rng)
            for _ in range(_ATTEMPTS):
                one = self._defect(name, background, stack, asked, taken, rng, told)
                if not isinstance(one, str):
                    break
            else:
                return f"no other {name} beside it"
            put(one, stack, taken)
            regions.append(one)
        return draft_of_several(background, stack, regions)

    def _defect(
        self,
        name: str,
        background: BackgroundSample,
        stack: Stack,
        asked: Asked,
        taken: Mask | None,
        rng: np.random.Generator,
        told: Mapping[str, float],
    ) -> Made | str:
        """Put one defect on what is there, of the size that was asked; return the reason when it is of no use.

        How far a defect is seen beyond its outline, or fades within it, shows on the result alone: where its label
        misses the size, the same is made again from an outline that is larger or smaller by as much.
        """
        state, aim = rng.bit_generator.state, asked
        best: Made | None = None
        for _ in range(_SIZE_TRIES if asked.size is not None else 1):
            rng.bit_generator.state = state
            one = self._once(name, background, stack, aim, taken, rng, told)
            if isinstance(one, str):
                # A smaller or larger one may not fit where the first did.
                if best is None:
                    return one
                break
            if asked.size is None or aim.size is None:
                return one
            one = one.asked_size(asked.size)
            if best is None or one.size_error() < best.size_error():
                best = one
            if one.size_error() < _SIZE_TOLERANCE:
                break
            aim = replace(aim, size=aim.size * float(np.clip(asked.size / one.size(), 0.5, 2.0)))
        return best if best is not None and best.size_error() < _MOST_OFF else "not of that size"

    def _once(
        self,
        name: str,
        background: BackgroundSample,
        stack: Stack,
        asked: Asked,
        taken: Mask | None,
        rng: np.random.Generator,
        told: Mapping[str, float],
    ) -> Made | str:
        kept, scene = self._classes[name], self._scene
        ground = self._ground(name, background)
        shape = plan.draw(
            kept.outlines,
            background,
            self._request,
            rng,
            asked,
            kept.control,
            ground=ground,
            px_per_mm=scene.calibration.px_per_mm,
            taken=taken,
        )
        if shape is None:
            return "no place"
        how = fitting_of(scene, kept.looks, shape)
        shape = widened(shape, how.reach_px, *background.allowed.shape)
        window = stack[:, shape.window[0], shape.window[1]]
        if told["attempt"] < _CHOOSY and not _as_bright(window, shape, kept.looks):
            return "a surface unlike any seed's"
        found = self._contrast(name, window, shape, asked, rng, how, ground)
        if isinstance(found, str):
            return found
        look, soft, severity, relative = found
        if taken is not None and (taken[shape.window] & (soft > 0)).any():
            return "no place"
        made = self._composed(window, look, soft, background.allowed[shape.window], rng)
        if reason := _broken(made, shape):
            return reason
        parameters = self._parameters(name, made, shape, relative, told)
        parameters = parameters.model_copy(update=self._asked_and_made(kept, asked, shape, made, severity))
        return Made(shape, made, self._provenance(background, kept, shape, parameters, how), relative)

    def _composed(
        self, window: Stack, look: Appearance, soft: NDArray[np.float32], allowed: Mask, rng: np.random.Generator
    ) -> Composite:
        calibration, bits = self._scene.calibration, self._scene.recipe.bit_depth
        surface = under_defect(window, soft, allowed, look.lay_kept, bits)
        return compose(
            window,
            look.contrast,
            soft,
            calibration,
            bits,
            rng,
            texture_kept=look.texture_kept,
            noise_share=look.noise_share,
            surface=surface,
        )

    def _contrast(
        self,
        name: str,
        window: Stack,
        shape: Shape,
        asked: Asked,
        rng: np.random.Generator,
        how: Fitting,
        ground: Ground,
    ) -> tuple[Appearance, NDArray[np.float32], float, float] | str:
        """Return the contrast as strong as asked, its weight, and its severity in the unit asked for and in seeds."""
        kept, scene, unit = self._classes[name], self._scene, self._classes[name].control.severity_unit
        factor: float | None = float(np.exp(rng.uniform(*np.log(self._request.severity))))
        painted = self._arm.appearance(window, shape, 1.0, name, rng)
        look, soft = fitted(painted, shape, ground.allowed[shape.window], window, scene, how)
        if not (soft > 0).any():
            return "no place"
        gauge = Gauge(window, look.contrast, soft, shape.mask, scene.calibration, scene.recipe.bit_depth, kept.median)
        if asked.severity is not None:
            factor = gauge.factor(unit, asked.severity)
        if factor is None:
            return "no contrast to strengthen"
        strong = agreed(look, scaled(look, factor), factor, soft, window, _lamps(kept.looks, shape))
        return strong, soft, gauge.of(unit, factor), gauge.of("seeds", factor)

    def _ground(self, name: str, background: BackgroundSample) -> Ground:
        key = (name, background.background_id)
        if key not in self._grounds:
            self._grounds[key] = ground_of(background, self._classes[name].control)
        return self._grounds[key]

    def _provenance(
        self, background: BackgroundSample, kept: _Class, shape: Shape, parameters: GeneratorParameters, how: Fitting
    ) -> Provenance:
        return Provenance(
            background_id=background.background_id,
            seed_ids=shape.seed_ids,
            base_digest=self._arm.base_digest,
            adapter_digest=kept.adapter_digest,
            calibration_digest=self._calibration_digest,
            parameters=parameters,
            generator_version=VERSION,
            conditions=how.facts(),
            adapters_from=self._request.adapters_from,
        )

    def _parameters(
        self, name: str, made: Composite, shape: Shape, relative: float, told: Mapping[str, float]
    ) -> GeneratorParameters:
        rows, columns = np.nonzero(made.mask)
        return GeneratorParameters(
            arm=self._arm.name,
            defect_class=name,
            severity=max(relative, 1e-9),
            center_x=float(shape.left + columns.mean()),
            center_y=float(shape.top + rows.mean()),
            orientation_deg=shape.orientation_deg,
            size_px=float(np.sqrt(made.support.sum())),
            morphology=shape.morphology | dict(told),
            random_seed=self._request.random_seed,
        )

    def _asked_and_made(
        self, kept: _Class, asked: Asked, shape: Shape, made: Composite, severity: float
    ) -> dict[str, dict[str, float] | dict[str, str]]:
        """Return what the plan asked and what came of it; nothing where the plan asked nothing."""
        wanted, control = asked.told(), kept.control
        if control.orientation is not None:
            wanted.setdefault("orientation", _seeds_direction(kept, shape))
        if not wanted:
            return {}
        seed = next(one for one in kept.outlines if one.seed.seed_id == shape.seed_ids[0])
        unit = {"seeds": plan.seen_extent(seed), "px": 1.0, "mm": self._scene.calibration.px_per_mm or 1.0}[
            control.size_unit
        ]
        found = {name: shape.morphology[name] for name in ("mix", "width", "elongation", "branches")} | {
            "severity": severity,
            "size": longest(made.mask) / unit,
            "orientation": folded(orientation(made.mask) - shape.morphology.get("lay_deg", 0.0)),
        }
        units = {"severity": control.severity_unit, "size": control.size_unit, "orientation": "degrees from the lay"}
        return {
            "asked": wanted,
            "made": {name: found[name] for name in wanted},
            "units": {name: unit for name, unit in units.items() if name in wanted},
        }


def _as_bright(window: Stack, shape: Shape, looks: Sequence[Look]) -> bool:
    """Return whether every channel is about as bright there as it was under some seed."""
    here = np.log(window[:, shape.mask].mean(axis=1) + 1.0)
    under = np.log(np.stack([look.level for look in looks]) + 1.0)
    return bool(((here > under.min(axis=0) - _BRIGHTER) & (here < under.max(axis=0) + _BRIGHTER)).all())


def _lamps(looks: Sequence[Look], shape: Shape) -> Lamps | None:
    """Return the lamps under which the shape's seed has one surface."""
    relief = next(look.relief for look in looks if look.seed.seed_id == shape.seed_ids[0])
    return relief.lamps if relief is not None else None


def _seeds_direction(kept: _Class, shape: Shape) -> float:
    return next(one.to_lay_deg for one in kept.outlines if one.seed.seed_id == shape.seed_ids[0])


def _broken(made: Composite, shape: Shape) -> str:
    """Return why a result is provably useless, or an empty string."""
    if made.mask.sum() < max(_LEAST_PIXELS, _LEAST_SEEN * shape.mask.sum()):
        return "invisible"
    if made.clipped_share > _MOST_CLIPPED:
        return "clipped"
    return ""
