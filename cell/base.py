"""What every record of the vocabulary has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from cell import digest


class Record(BaseModel):
    """An immutable, strictly typed fact. Unknown keys are refused, so a spelling error never passes as a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", protected_namespaces=())

    def record_digest(self) -> str:
        """Return the SHA-256 over the canonical JSON of all fields."""
        return digest.of_record(self.model_dump(mode="json"))
