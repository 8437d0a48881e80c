"""The learning database: real images, jobs, candidates, the gate, calibrations and models.

The daemon's harvest, the trainer and the tools open it at the same time. Nothing here can lock the line's database.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from cell import digest
from cell.calibration import Calibration
from cell.clock import WallClock, utc_now
from cell.defects import ImageRef, Mask
from cell.errors import CalibrationError, ModelError, NotFound, StoreError
from cell.frames import StoredStack
from cell.models import ModelManifest
from cell.store.candidates import Candidates
from cell.store.database import Database, to_text
from cell.store.gate import Gate
from cell.store.jobs import Jobs
from cell.store.layout import StateDir
from cell.store.ledger import Ledger
from cell.store.pictures import Pictures
from cell.store.process import ProcessChanges
from cell.store.real import RealImages
from cell.store.requests import RequestLedger
from cell.store.tables import calibrations, models


class LearningStore(RealImages):
    """Everything about learning. Safe for threads and for several processes.

    Splits, backgrounds and seeds are methods of :class:`cell.store.real.RealImages`; `jobs`, `candidates`, `gate`
    and `process` are parts of their own; `requests` is the trainer service's ledger of commands.
    """

    def __init__(self, state: StateDir, *, clock: WallClock = utc_now) -> None:
        """Open or make ``learning.db``. Raises `StoreError` when it is damaged, too new or can't be migrated."""
        self.state = state
        database = Database(state.learning_db, "learning")
        chain = Ledger(database, state, clock)
        pictures = Pictures(state)
        super().__init__(database, chain, pictures, clock)
        self.requests = RequestLedger(database, clock)
        self.jobs = Jobs(database, clock)
        self.process = ProcessChanges(database, state, clock)
        self.candidates = Candidates(database, chain, pictures, clock)
        self.gate = Gate(database, chain, pictures, self.candidates, clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; every later call raises `StoreError`."""
        self._database.close()

    def read_image(self, image: ImageRef) -> StoredStack:
        """Read a picture; its pixels are those of the reference's digest, or `DataError` is raised."""
        return self._pictures.read_image(image)

    def read_mask(self, mask: ImageRef) -> Mask:
        """Read a mask (H, W) bool; it is that of the reference's digest, or `DataError` is raised."""
        return self._pictures.read_mask(mask)

    def add_calibration(self, calibration: Calibration) -> str:
        """Record a calibration and return its digest; the same again changes nothing.

        Raises `StoreError` when its id is taken by another one.
        """
        found = calibration.record_digest()
        with self._database.write() as connection:
            known = connection.scalars(
                sa.select(calibrations.c.digest).where(calibrations.c.calibration_id == calibration.calibration_id)
            ).first()
            if known is None:
                connection.execute(
                    sa.insert(calibrations).values(
                        calibration_id=calibration.calibration_id,
                        recipe_id=calibration.recipe_id,
                        digest=found,
                        created_at=to_text(calibration.created_at),
                        record=calibration.model_dump_json(),
                    )
                )
        if known not in (None, found):
            raise StoreError(f"the calibration id {calibration.calibration_id} is taken; give the new one another id")
        return found

    def calibration(self, recipe_id: str) -> Calibration:
        """Return the newest calibration of a recipe that is valid now. Raises `CalibrationError` when there is none."""
        found = self.calibrations(recipe_id)
        now = self._clock()
        for calibration in found:
            if calibration.valid_until is None or calibration.valid_until > now:
                return calibration
        if found:
            raise CalibrationError(
                f"the calibration of {recipe_id} is outdated since {found[0].valid_until}; run inspectctl calibrate"
            )
        raise CalibrationError(f"the recipe {recipe_id} has no calibration; run inspectctl calibrate")

    def calibrations(self, recipe_id: str) -> tuple[Calibration, ...]:
        """Return all calibrations of a recipe, newest first, outdated ones included."""
        statement = (
            sa.select(calibrations.c.record)
            .where(calibrations.c.recipe_id == recipe_id)
            .order_by(calibrations.c.created_at.desc())
        )
        with self._database.read() as connection:
            return tuple(Calibration.model_validate_json(text) for text in connection.scalars(statement))

    def calibration_by_digest(self, calibration_digest: str) -> Calibration:
        """Return the calibration that a candidate's provenance names. Raises `NotFound`."""
        statement = sa.select(calibrations.c.record).where(calibrations.c.digest == calibration_digest)
        with self._database.read() as connection:
            text = connection.scalars(statement).first()
        if text is None:
            raise NotFound(f"there is no calibration with the digest {calibration_digest[:12]}; calibrate again")
        return Calibration.model_validate_json(text)

    def register_model(self, manifest: ModelManifest, folder: Path) -> None:
        """Record a model whose package is durable in `folder`, which must be `state.model_folder(onnx_digest)`.

        The same again changes nothing. Raises `ModelError` when the package lies elsewhere, its ONNX file is missing or
        has another digest, or the digest or id is taken by another manifest.
        """
        if folder.absolute() != self.state.model_folder(manifest.onnx_digest):
            raise ModelError(f"the package of {manifest.model_id} must lie in models/{manifest.onnx_digest}; move it")
        onnx = folder / manifest.onnx_file
        try:
            found = digest.of_file(onnx)
        except OSError as error:
            raise ModelError(f"can't read {onnx}: {error.strerror}; export the model again") from error
        if found != manifest.onnx_digest:
            raise ModelError(f"{onnx} is not the file that {manifest.model_id} was exported to; export it again")
        text = manifest.model_dump_json()
        with self._database.write() as connection:
            taken = sa.or_(models.c.onnx_digest == manifest.onnx_digest, models.c.model_id == manifest.model_id)
            known = connection.scalars(sa.select(models.c.record).where(taken)).all()
            if not known:
                connection.execute(
                    sa.insert(models).values(
                        onnx_digest=manifest.onnx_digest,
                        model_id=manifest.model_id,
                        recipe_id=manifest.recipe_id,
                        created_at=to_text(manifest.created_at),
                        record=text,
                    )
                )
        if known and any(ModelManifest.model_validate_json(record) != manifest for record in known):
            raise ModelError(f"the model id or digest of {manifest.model_id} is taken by another; give it a new id")

    def model(self, name: str) -> ModelManifest:
        """Return a model by its ONNX digest, its id, or a beginning of the digest that names one alone.

        Raises `NotFound`.
        """
        matches = sa.or_(models.c.model_id == name, models.c.onnx_digest.startswith(name, autoescape=True))
        with self._database.read() as connection:
            texts = connection.scalars(sa.select(models.c.record).where(matches).limit(2)).all() if name else []
        if len(texts) != 1:
            reason = "more than one model begins" if texts else "there is no model"
            raise NotFound(f"{reason} with {name!r}; `inspectctl models` lists them")
        return ModelManifest.model_validate_json(texts[0])

    def models(self, recipe_id: str = "") -> tuple[ModelManifest, ...]:
        """Return all models, or those of a recipe, newest first."""
        statement = sa.select(models.c.record).order_by(models.c.created_at.desc())
        if recipe_id:
            statement = statement.where(models.c.recipe_id == recipe_id)
        with self._database.read() as connection:
            return tuple(ModelManifest.model_validate_json(text) for text in connection.scalars(statement))
