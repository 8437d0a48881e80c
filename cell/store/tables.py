"""The tables of both databases. Each record is one JSON column; beside it stand the columns that are searched.

The migrations make them; a test compares what they made with what stands here.
"""

from __future__ import annotations

import sqlalchemy as sa

LINE = sa.MetaData()
LEARNING = sa.MetaData()


def _requests(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "requests",
        metadata,
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("command_digest", sa.Text, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("reply", sa.Text),
        sa.Column("begun_at", sa.Text, nullable=False),
        sa.Column("finished_at", sa.Text),
        sa.Index("requests_open", "begun_at", sqlite_where=sa.text("reply IS NULL")),
    )


def _counters(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        "counters",
        metadata,
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("high", sa.Integer, nullable=False),
    )


line_requests = _requests(LINE)
line_counters = _counters(LINE)
events = sa.Table(
    "events",
    LINE,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("record", sa.Text, nullable=False),
)
verdicts = sa.Table(
    "verdicts",
    LINE,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("part_id", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("verdicts_sequence", "sequence"),
    sa.Index("verdicts_part", "part_id"),
)
archived = sa.Table(
    "archived",
    LINE,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("job_id", sa.Text, nullable=False, unique=True),
    sa.Column("part_id", sa.Text, nullable=False),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("pixels", sa.Integer, nullable=False, server_default="1"),
    sa.Index("archived_pixels", "outcome", "number", sqlite_where=sa.text("pixels = 1")),
    sa.Index("archived_recipe", "recipe_id", "outcome", "number"),
    sa.Index("archived_part", "part_id"),
)
part_reports = sa.Table(
    "part_reports",
    LINE,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("part_id", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("part_reports_part", "part_id"),
)
recipes = sa.Table(
    "recipes",
    LINE,
    sa.Column("recipe_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("removed", sa.Integer, nullable=False, server_default="0"),
)
deployments = sa.Table(
    "deployments",
    LINE,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("deployments_recipe", "recipe_id", "number"),
)
conditions = sa.Table(
    "conditions",
    LINE,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("open", sa.Integer, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
)

learning_requests = _requests(LEARNING)
learning_counters = _counters(LEARNING)
#: The sealed chain: every fact that decides what a model may learn from. Append-only by trigger.
ledger = sa.Table(
    "ledger",
    LEARNING,
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("seal", sa.Text, nullable=False),
    sa.Index("ledger_subject", "kind", "subject", "sequence"),
)
backgrounds = sa.Table(
    "backgrounds",
    LEARNING,
    sa.Column("background_id", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("part_id", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("backgrounds_recipe", "recipe_id", "background_id"),
)
seeds = sa.Table(
    "seeds",
    LEARNING,
    sa.Column("seed_id", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("part_id", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("seeds_recipe", "recipe_id", "seed_id"),
)
candidates = sa.Table(
    "candidates",
    LEARNING,
    sa.Column("candidate_id", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("defect_class", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("candidates_recipe", "recipe_id", "candidate_id"),
    sa.Index("candidates_job", "job_id"),
)
training_sets = sa.Table(
    "training_sets",
    LEARNING,
    sa.Column("manifest_id", sa.Text, primary_key=True),
    sa.Column("content_digest", sa.Text, nullable=False, unique=True),
    sa.Column("selection_digest", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("training_sets_selection", "selection_digest"),
)
calibrations = sa.Table(
    "calibrations",
    LEARNING,
    sa.Column("calibration_id", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False, unique=True),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("calibrations_recipe", "recipe_id", "created_at"),
)
models = sa.Table(
    "models",
    LEARNING,
    sa.Column("onnx_digest", sa.Text, primary_key=True),
    sa.Column("model_id", sa.Text, nullable=False, unique=True),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("models_recipe", "recipe_id", "created_at"),
)
process_changes = sa.Table(
    "process_changes",
    LEARNING,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("process_changes_recipe", "recipe_id", "number"),
)
jobs = sa.Table(
    "jobs",
    LEARNING,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("jobs_state", "state", "job_id"),
)

#: Tables of the learning database whose rows may never change or go.
APPEND_ONLY = ("ledger", "training_sets", "candidates", "backgrounds", "calibrations", "models", "process_changes")
