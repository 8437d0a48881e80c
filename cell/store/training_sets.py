"""Training sets: selected from sealed facts, sealed themselves, and verified from scratch whenever they are used."""

from __future__ import annotations

import hmac
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from cell import digest
from cell.clock import WallClock
from cell.defects import Background, Candidate, ImageRef, Mask, Seed
from cell.errors import ConfigurationError, DataError, GateError, NotFound
from cell.frames import StoredStack
from cell.models import ManifestItem, SampleKind, TrainingSet
from cell.recipes import DefectClass, Recipe
from cell.store.counters import reserve
from cell.store.database import Database
from cell.store.facts import Facts, Rows, confirmed, suits
from cell.store.ledger import Ledger
from cell.store.limits import check_seeds, most_synthetic
from cell.store.pictures import Pictures
from cell.store.tables import backgrounds, candidates, ledger, seeds, training_sets

_THREADS = 4


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for; see :meth:`cell.store.gate.Gate.issue_training_set`."""

    synthetic_ratio: float
    people_only: bool
    classes: tuple[str, ...]
    job_ids: tuple[str, ...] | None
    limit_per_class: int | None


@dataclass(frozen=True, slots=True)
class _Picked:
    item: ManifestItem
    image: ImageRef
    mask: ImageRef | None
    emulated: bool
    reviewer: str = ""
    by_person: bool = True


class TrainingSets:
    """Issues and verifies training sets."""

    def __init__(self, database: Database, chain: Ledger, pictures: Pictures, clock: WallClock) -> None:
        self._database = database
        self._ledger = chain
        self._pictures = pictures
        self._clock = clock

    def issue(self, recipe: Recipe, wanted: Selection) -> TrainingSet:
        """Select, verify every file, seal and record. Raises `GateError`, `ConfigurationError` for a wrong request."""
        _check_request(recipe, wanted)
        facts = Facts.of(self._ledger.verify())
        with self._database.read() as connection:
            rows = Rows.load(connection, recipe.recipe_id, facts)
        _check_reviewer_looked(rows, facts)
        picked = _select(recipe, wanted, rows, facts)
        self._check_files(picked)
        manifest = _manifest(recipe, wanted, picked)
        selection_digest = manifest.content_digest()
        known = self._known(selection_digest)
        if known is not None:
            return known
        with self._database.write_direct() as direct:
            number = reserve(direct, "training-set", 1)
        with self._ledger.transaction() as writer:
            _check_nothing_changed(writer.connection, facts.last_sequence, picked)
            dated = manifest.model_copy(update={"manifest_id": f"set-{number:04d}", "issued_at": writer.at})
            content = dated.content_digest()
            sealed = dated.model_copy(update={"seal": self._ledger.sign("training-set", content)})
            writer.append("training-set", sealed.manifest_id, {"content": content})
            writer.connection.execute(
                sa.insert(training_sets).values(
                    manifest_id=sealed.manifest_id,
                    content_digest=content,
                    selection_digest=selection_digest,
                    record=sealed.model_dump_json(),
                )
            )
        return sealed

    def get(self, name: str) -> TrainingSet:
        """Return a set by manifest id or content digest, not verified. Raises `NotFound`."""
        matches = sa.or_(training_sets.c.manifest_id == name, training_sets.c.content_digest == name)
        with self._database.read() as connection:
            text = connection.scalars(sa.select(training_sets.c.record).where(matches)).first()
        if text is None:
            raise NotFound(f"the store issued no training set {name[:20]!r}; `inspectctl train` issues one")
        try:
            return TrainingSet.model_validate_json(text)
        except ValueError as error:
            raise GateError(f"the training set {name[:20]!r} is not readable; issue another") from error

    def verify(self, manifest: TrainingSet) -> None:
        """Verify a set from scratch. Raises `GateError`."""
        content = manifest.content_digest()
        facts = Facts.of(self._ledger.verify())
        name = manifest.manifest_id
        if not hmac.compare_digest(manifest.seal, self._ledger.sign("training-set", content)):
            raise GateError(f"the seal of the training set {name} does not fit; only the store can issue one")
        entry = facts.entry("training-set", name)
        if entry is None or entry.payload.get("content") != content:
            raise GateError(f"the training set {name} was not issued by this store; issue it here")
        try:
            recorded = self.get(name)
        except NotFound as error:
            raise GateError(f"the training set {name} is not in the store; restore the database") from error
        if recorded != manifest:
            raise GateError(f"the training set {name} in the store is another; restore the database")
        with self._database.read() as connection:
            rows = Rows.load(connection, manifest.recipe_id, facts)
        self._check_files([_pick_again(item, manifest.recipe_id, rows, facts) for item in manifest.items])

    def verify_digest(self, content_digest: str) -> TrainingSet:
        """Verify the set with that content digest and return it. Raises `GateError`."""
        try:
            manifest = self.get(content_digest)
        except NotFound as error:
            raise GateError(f"the model's training set is unknown here: {error}") from error
        if manifest.content_digest() != content_digest:
            raise GateError(f"the training set {content_digest[:12]} was altered; restore the database")
        self.verify(manifest)
        return manifest

    def load_item(self, item: ManifestItem) -> tuple[StoredStack, Mask | None]:
        """Read an item's picture and mask by the digests the item names. Raises `DataError` or `NotFound`."""
        image, mask = self._references(item)
        stack = self._pictures.read_image(image.model_copy(update={"digest": item.image_digest}))
        if mask is None or item.mask_digest is None:
            return stack, None
        return stack, self._pictures.read_mask(mask.model_copy(update={"digest": item.mask_digest}))

    def _references(self, item: ManifestItem) -> tuple[ImageRef, ImageRef | None]:
        by_id = {
            SampleKind.BACKGROUND: (backgrounds, backgrounds.c.background_id),
            SampleKind.SEED: (seeds, seeds.c.seed_id),
            SampleKind.SYNTHETIC: (candidates, candidates.c.candidate_id),
        }
        table, key = by_id[item.kind]
        with self._database.read() as connection:
            text = connection.scalars(sa.select(table.c.record).where(key == item.item_id)).first()
        if text is None:
            raise NotFound(f"the store has no {item.kind.value} {item.item_id!r}; issue the training set anew")
        if item.kind is SampleKind.BACKGROUND:
            return Background.model_validate_json(text).image, None
        row = (Seed if item.kind is SampleKind.SEED else Candidate).model_validate_json(text)
        return row.image, row.mask

    def _known(self, selection_digest: str) -> TrainingSet | None:
        statement = sa.select(training_sets.c.manifest_id).where(training_sets.c.selection_digest == selection_digest)
        with self._database.read() as connection:
            name = connection.scalars(statement).first()
        if name is None:
            return None
        known = self.get(name)
        self.verify(known)
        return known

    def _check_files(self, picked: Sequence[_Picked]) -> None:
        # Decompression and hashing leave the interpreter's lock, so a few threads pay; they end with the block.
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="verify-pictures") as pool:
            for problem in pool.map(self._problem, picked):
                if problem:
                    raise GateError(problem)

    def _problem(self, picked: _Picked) -> str:
        try:
            self._pictures.read_image(picked.image)
            if picked.mask is not None:
                self._pictures.read_mask(picked.mask)
        except DataError as error:
            return f"{picked.item.kind.value} {picked.item.item_id} can't be learned from: {error}"
        return ""


def _check_request(recipe: Recipe, wanted: Selection) -> None:
    if not (math.isfinite(wanted.synthetic_ratio) and wanted.synthetic_ratio >= 0):
        raise ConfigurationError(f"synthetic_ratio must be 0 or more, got {wanted.synthetic_ratio}")
    unknown = sorted(set(wanted.classes) - set(recipe.class_names))
    if unknown or not wanted.classes or len(set(wanted.classes)) != len(wanted.classes):
        raise ConfigurationError(
            f"classes must be some of {', '.join(recipe.class_names)}, each once, got {', '.join(wanted.classes)}"
        )


def _check_reviewer_looked(rows: Rows, facts: Facts) -> None:
    # Which ones is not told: who accepted them shall look again, not turn them over.
    passed = [facts.accepted(name) for name, candidate in rows.candidates.items() if candidate.planted_bad]
    reviewers = sorted({str(entry.payload["reviewer"]) for entry in passed if entry is not None})
    if reviewers:
        number = sum(entry is not None for entry in passed)
        raise GateError(
            f"{number} known-bad candidates stand accepted by {', '.join(reviewers)}: review them all again"
        )


def _select(recipe: Recipe, wanted: Selection, rows: Rows, facts: Facts) -> list[_Picked]:
    name = recipe.recipe_id

    def fits(kind: str, subject: str) -> bool:
        entry = facts.entry(kind, subject)
        return suits(entry, recipe.channel_names, (recipe.height, recipe.width), recipe.bit_depth)

    good = [
        row
        for row in rows.backgrounds.values()
        if facts.learns_from(name, row.part_id)
        and fits("background", row.background_id)
        and not facts.withdrawn(row.background_id)
    ]
    if not good:
        raise GateError(f"there are no backgrounds of {name} to learn from; run inspectctl harvest")
    bad = [
        row
        for row in rows.seeds.values()
        if confirmed(row)
        and facts.learns_from(name, row.part_id)
        and row.defect_class in wanted.classes
        and fits("seed", row.seed_id)
    ]
    known = {one.name: one for one in recipe.defect_classes}
    for defect_class in wanted.classes:
        check_seeds(known[defect_class], [seed for seed in bad if seed.defect_class == defect_class])
    synthetic = [
        row
        for row in rows.candidates.values()
        if not row.planted_bad
        and set(row.classes) <= set(wanted.classes)
        and (wanted.job_ids is None or row.job_id in wanted.job_ids)
        and facts.accepted(row.candidate_id, people_only=wanted.people_only) is not None
        and fits("candidate", row.candidate_id)
        and _sources_learn(row, rows, facts)
        and not facts.withdrawn(row.provenance.background_id)
    ]
    capped = [row for defect_class in wanted.classes for row in _capped(known[defect_class], synthetic, bad, wanted)]
    if wanted.synthetic_ratio > 0 and not capped:
        who = "by a person " if wanted.people_only else ""
        raise GateError(f"no candidate of {name} is accepted {who}yet; review them, or ask for synthetic_ratio 0")
    return [
        *(_pick_background(row, facts) for row in good),
        *(_pick_seed(row, facts) for row in bad),
        *(_pick_candidate(row, rows, facts) for row in sorted(capped, key=lambda row: row.candidate_id)),
    ]


def _sources_learn(candidate: Candidate, rows: Rows, facts: Facts) -> bool:
    background = rows.backgrounds.get(candidate.provenance.background_id)
    known = rows.borrowed if candidate.provenance.adapters_from else rows.seeds
    sources = [known.get(seed_id) for seed_id in candidate.provenance.seed_ids]
    return all(
        source is not None and facts.learns_from(source.recipe_id, source.part_id) for source in (background, *sources)
    )


def _capped(
    defect_class: DefectClass, synthetic: Iterable[Candidate], bad: Iterable[Seed], wanted: Selection
) -> list[Candidate]:
    # Review shows doubtful ones first, so the order of acceptance is no fair sample; the hash of the id is.
    of_class = [row for row in synthetic if row.defect_class == defect_class.name]
    of_class.sort(key=lambda row: digest.of_bytes(row.candidate_id.encode()))
    seeds = sum(seed.defect_class == defect_class.name for seed in bad)
    limit = most_synthetic(defect_class, seeds, wanted.synthetic_ratio)
    return of_class[: limit if wanted.limit_per_class is None else min(limit, wanted.limit_per_class)]


def _emulated(facts: Facts, kind: str, subject: str) -> bool:
    entry = facts.entry(kind, subject)
    return entry is None or entry.payload.get("emulated") is not False


def _pick_background(row: Background, facts: Facts) -> _Picked:
    item = ManifestItem(
        kind=SampleKind.BACKGROUND, item_id=row.background_id, part_id=row.part_id, image_digest=row.image.digest
    )
    return _Picked(item, row.image, None, _emulated(facts, "background", row.background_id))


def _pick_seed(row: Seed, facts: Facts) -> _Picked:
    item = ManifestItem(
        kind=SampleKind.SEED,
        item_id=row.seed_id,
        part_id=row.part_id,
        defect_class=row.defect_class,
        image_digest=row.image.digest,
        mask_digest=row.mask.digest,
    )
    entry = facts.entry("seed", row.seed_id)
    by_person = entry is not None and entry.payload.get("is_person") is True
    return _Picked(item, row.image, row.mask, _emulated(facts, "seed", row.seed_id), by_person=by_person)


def _pick_candidate(row: Candidate, rows: Rows, facts: Facts) -> _Picked:
    decision = facts.accepted(row.candidate_id)
    if decision is None:
        raise GateError(f"the candidate {row.candidate_id} is not accepted; issue another training set")
    shown = decision.payload.get("image_digest"), decision.payload.get("mask_digest")
    if shown != (row.image.digest, row.mask.digest):
        raise GateError(f"the decision on {row.candidate_id} is about other pictures; review it again")
    item = ManifestItem(
        kind=SampleKind.SYNTHETIC,
        item_id=row.candidate_id,
        part_id=rows.backgrounds[row.provenance.background_id].part_id,
        defect_class=row.defect_class,
        image_digest=row.image.digest,
        mask_digest=row.mask.digest,
        decision_sequence=decision.sequence,
    )
    return _Picked(
        item,
        row.image,
        row.mask,
        _emulated(facts, "candidate", row.candidate_id),
        reviewer=str(decision.payload["reviewer"]),
        by_person=decision.payload.get("is_person") is True,
    )


def _pick_again(item: ManifestItem, recipe_id: str, rows: Rows, facts: Facts) -> _Picked:
    """Pick an item of an issued set anew; it must come out the same, but for a later decision that accepts again."""
    unknown = GateError(f"the {item.kind.value} {item.item_id} is no longer what was learned; issue another set")
    if item.kind is SampleKind.BACKGROUND:
        if item.item_id not in rows.backgrounds:
            raise unknown
        picked = _pick_background(rows.backgrounds[item.item_id], facts)
    elif item.kind is SampleKind.SEED:
        if item.item_id not in rows.seeds or not confirmed(rows.seeds[item.item_id]):
            raise unknown
        picked = _pick_seed(rows.seeds[item.item_id], facts)
    else:
        row = rows.candidates.get(item.item_id)
        if row is None or row.planted_bad or not _sources_learn(row, rows, facts):
            raise unknown
        picked = _pick_candidate(row, rows, facts)
    same = item.model_copy(update={"decision_sequence": picked.item.decision_sequence})
    if same != picked.item or not facts.learns_from(recipe_id, item.part_id):
        raise unknown
    return picked


def _manifest(recipe: Recipe, wanted: Selection, picked: Sequence[_Picked]) -> TrainingSet:
    """Return the set without id, time and seal: equal for equal selections."""
    return TrainingSet(
        manifest_id="selection",
        recipe_id=recipe.recipe_id,
        recipe_version=recipe.version,
        classes=wanted.classes,
        channels=recipe.channel_names,
        items=tuple(one.item for one in picked),
        reviewers=tuple(sorted({one.reviewer for one in picked if one.reviewer})),
        reviewed_by_people=all(one.by_person for one in picked),
        emulated=any(one.emulated for one in picked),
        issued_at=datetime(1970, 1, 1, tzinfo=UTC),
    )


def _check_nothing_changed(connection: sa.Connection, last_sequence: int, picked: Sequence[_Picked]) -> None:
    changed = set(
        connection.scalars(
            sa.select(ledger.c.subject).where(
                ledger.c.sequence > last_sequence,
                ledger.c.kind.in_(("decision", "seed", "background-withdrawn")),
            )
        )
    )
    if changed & {one.item.item_id for one in picked}:
        raise GateError("decisions changed while the training set was made; ask for it again")
