"""What harvest keeps: backgrounds that add something, and seed proposals with what their regions resemble."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cell.defects import Seed, SeedFinding, SeedRegion, Split
from cell.frames import StoredStack
from cell.imaging.likeness import regions_of
from cell.store.learning import LearningStore
from daemon.harvest.memory import Gathered, Shown
from daemon.harvest.quality import Finding

#: Good parts kept of one recipe on either side of the split; later ones are refused as "enough".
MOST_BACKGROUNDS = 600
#: Proposals by anomaly alone that may wait for a person.
MOST_PROPOSALS = 200
#: Regions of a proposal that are described.
_MOST_REGIONS = 16


def worth(gathered: Gathered, finding: Finding, split: Split) -> Finding:
    """Return the finding, or a refusal when what it would keep adds nothing.

    Held-out parts are what results are measured by: they stay a fair sample and are not chosen by what they show.
    """
    if finding.kind == "background":
        if gathered.backgrounds[split] >= MOST_BACKGROUNDS:
            return Finding("refused", "enough good parts of this kind are kept")
        if split is Split.LEARN:
            useful = gathered.coverage.useful(finding.conditions)
            gathered.coverage.saw(finding.conditions, kept=useful)
            if not useful:
                return Finding("refused", "good, but like backgrounds that are kept")
    if finding.kind == "seed" and finding.proposed_by == "anomaly" and gathered.proposals >= MOST_PROPOSALS:
        return Finding("refused", "enough proposals wait for a person")
    return finding


def keep(
    learning: LearningStore, gathered: Gathered, stack: StoredStack, shown: Shown, split: Split, finding: Finding
) -> None:
    """Store a background or a seed proposal, count it and show it on the sheet."""
    recipe = gathered.recipe
    # When the part was before the camera, not when harvest looked: a change of the process may lie between the two.
    facts: dict[str, Any] = {"lot": shown.lot, "taken_at": shown.at}
    if finding.kind == "background":
        quality = finding.quality | finding.conditions
        learning.add_background(recipe.recipe_id, shown.physical, stack, split, quality=quality, **facts)
        gathered.backgrounds[split] += 1
        gathered.sheet.add(stack.pixels, "background")
    elif finding.mask is not None:
        found = describe(gathered, finding)
        suggested = next((region.suggested_class for region in found.regions if region.suggested_class), "")
        defect_class = finding.defect_class or suggested or recipe.class_names[0]
        learning.propose_seed(
            recipe.recipe_id, shown.physical, stack, finding.mask, defect_class, split, found=found, **facts
        )
        gathered.proposals += finding.proposed_by == "anomaly"
        gathered.sheet.add(stack.pixels, f"seed: {defect_class}" if finding.defect_class else "seed", finding.mask)
    gathered.journal.took(finding.kind, shown.part_id)


def describe(gathered: Gathered, finding: Finding) -> SeedFinding:
    """Describe a proposal's regions and put each into the group it resembles."""
    if finding.mask is None or finding.view is None:
        return SeedFinding(proposed_by=finding.proposed_by)
    names, groups = gathered.recipe.channel_names, gathered.groups
    described = []
    for region in regions_of(finding.mask, finding.view.residual, finding.view.part)[:_MOST_REGIONS]:
        group = groups.place(region.look)
        groups.name(group, finding.defect_class)
        described.append(
            SeedRegion(
                box=region.box,
                area_px=region.area_px,
                group=group,
                suggested_class=finding.defect_class or groups.suggested(group),
                channels=tuple(names[index] for index in region.shown),
                look=tuple(round(value, 4) for value in region.look),
            )
        )
    return SeedFinding(regions=tuple(described), proposed_by=finding.proposed_by, anomaly=round(finding.view.score, 4))


def groups_of(seeds: Iterable[Seed]) -> list[dict[str, Any]]:
    """Return the groups of regions that look alike: regions and seeds of each, the class they suggest, their lights."""
    rows: dict[str, dict[str, Any]] = {}
    for seed in seeds:
        for region in (one for one in seed.regions if one.group):
            row = rows.setdefault(
                region.group, {"group": region.group, "regions": 0, "seeds": [], "class": "", "channels": []}
            )
            row["regions"] += 1
            if seed.seed_id not in row["seeds"]:
                row["seeds"].append(seed.seed_id)
            row["class"] = region.suggested_class or row["class"]
            row["channels"] += [name for name in region.channels if name not in row["channels"]]
    return sorted(rows.values(), key=lambda row: -len(row["seeds"]))
