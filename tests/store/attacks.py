"""What attacks on the gate begin with: a store that was used honestly, and a hand that forges its ledger."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from cell.defects import Candidate
from cell.errors import GateError
from cell.models import TrainingSet
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from tests.store.helpers import (
    RECIPE,
)


@dataclass
class Scene:
    """A store in which `accepted` passed the gate, `waiting` and `rejected` did not, and a set was issued."""

    store: LearningStore
    state: StateDir
    accepted: Candidate
    waiting: Candidate
    rejected: Candidate
    manifest: TrainingSet

    def refused_everywhere(self, reason: str = "") -> None:
        """Assert that neither training nor deployment gets through."""
        for attempt in (
            lambda: self.store.gate.issue_training_set(RECIPE),
            lambda: self.store.gate.verify_training_set(self.manifest),
            lambda: self.store.gate.verify_training_set_digest(self.manifest.content_digest()),
        ):
            with pytest.raises(GateError) as caught:
                attempt()
            assert reason in str(caught.value)
            assert "\n" not in str(caught.value)


def last_entry(connection: sqlite3.Connection, kind: str) -> dict[str, str]:
    connection.row_factory = sqlite3.Row
    statement = "SELECT * FROM ledger WHERE kind = ? ORDER BY sequence DESC LIMIT 1"
    row = connection.execute(statement, (kind,)).fetchone()
    assert row is not None
    return dict(row)


def forge(
    connection: sqlite3.Connection, kind: str, subject: str, payload: Mapping[str, object], seal: str = ""
) -> int:
    """Append an entry as the code would, but for the key."""
    sequence, before = connection.execute("SELECT sequence, seal FROM ledger ORDER BY sequence DESC LIMIT 1").fetchone()
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    at = "2026-03-01T12:00:00.000000+00:00"
    content = json.dumps([before, sequence + 1, kind, subject, text, at], separators=(",", ":"))
    guess = seal or hmac.new(b"guess", f"entry\0{content}".encode(), hashlib.sha256).hexdigest()
    connection.execute("INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?)", (sequence + 1, kind, subject, text, at, guess))
    return int(sequence + 1)
