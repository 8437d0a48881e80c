"""The learning tables and the triggers that make them append-only."""

import sqlalchemy as sa
from alembic import op

revision = "learning_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "backgrounds",
        sa.Column("background_id", sa.Text, primary_key=True),
        sa.Column("recipe_id", sa.Text, nullable=False),
        sa.Column("part_id", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("backgrounds_recipe", "backgrounds", ["recipe_id", "background_id"])
    op.create_table(
        "calibrations",
        sa.Column("calibration_id", sa.Text, primary_key=True),
        sa.Column("recipe_id", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("calibrations_recipe", "calibrations", ["recipe_id", "created_at"])
    op.create_table(
        "candidates",
        sa.Column("candidate_id", sa.Text, primary_key=True),
        sa.Column("recipe_id", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("defect_class", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("candidates_job", "candidates", ["job_id"])
    op.create_index("candidates_recipe", "candidates", ["recipe_id", "candidate_id"])
    op.create_table(
        "counters",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("high", sa.Integer, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("recipe_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("jobs_state", "jobs", ["state", "job_id"])
    op.create_table(
        "ledger",
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("seal", sa.Text, nullable=False),
    )
    op.create_index("ledger_subject", "ledger", ["kind", "subject", "sequence"])
    op.create_table(
        "models",
        sa.Column("onnx_digest", sa.Text, primary_key=True),
        sa.Column("model_id", sa.Text, nullable=False, unique=True),
        sa.Column("recipe_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("models_recipe", "models", ["recipe_id", "created_at"])
    op.create_table(
        "requests",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("command_digest", sa.Text, nullable=False),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("reply", sa.Text),
        sa.Column("begun_at", sa.Text, nullable=False),
        sa.Column("finished_at", sa.Text),
    )
    op.create_index("requests_open", "requests", ["begun_at"], sqlite_where=sa.text("reply IS NULL"))
    op.create_table(
        "seeds",
        sa.Column("seed_id", sa.Text, primary_key=True),
        sa.Column("recipe_id", sa.Text, nullable=False),
        sa.Column("part_id", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("seeds_recipe", "seeds", ["recipe_id", "seed_id"])
    op.create_table(
        "training_sets",
        sa.Column("manifest_id", sa.Text, primary_key=True),
        sa.Column("content_digest", sa.Text, nullable=False, unique=True),
        sa.Column("selection_digest", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("training_sets_selection", "training_sets", ["selection_digest"])
    # INSERT OR REPLACE deletes without firing a DELETE trigger, so a key that is taken is refused as well.
    keys = {
        "ledger": "sequence",
        "training_sets": "manifest_id",
        "candidates": "candidate_id",
        "backgrounds": "background_id",
        "calibrations": "calibration_id",
        "models": "onnx_digest",
    }
    for table, key in keys.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, 'the table {table} is append-only'); END"
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key}) {refuse}"
        )


def downgrade() -> None:
    """Refuse: data would be lost."""
    raise RuntimeError("a store is never migrated back; restore the backup made before the upgrade")
