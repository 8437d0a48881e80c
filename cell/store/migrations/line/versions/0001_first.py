"""The line's tables."""

import sqlalchemy as sa
from alembic import op

revision = "line_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "archived",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("job_id", sa.Text, nullable=False, unique=True),
        sa.Column("part_id", sa.Text, nullable=False),
        sa.Column("recipe_id", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("archived_part", "archived", ["part_id"])
    op.create_index("archived_recipe", "archived", ["recipe_id", "outcome", "number"])
    op.create_table(
        "conditions",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("open", sa.Integer, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("high", sa.Integer, nullable=False),
    )
    op.create_table(
        "deployments",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("recipe_id", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("deployments_recipe", "deployments", ["recipe_id", "number"])
    op.create_table(
        "events",
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_table(
        "part_reports",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("part_id", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("part_reports_part", "part_reports", ["part_id"])
    op.create_table(
        "recipes",
        sa.Column("recipe_id", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
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
        "verdicts",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("recipe_id", sa.Text, nullable=False),
        sa.Column("part_id", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("verdicts_part", "verdicts", ["part_id"])
    op.create_index("verdicts_sequence", "verdicts", ["sequence"])
    for table, verb in (("verdicts", "UPDATE"), ("deployments", "UPDATE"), ("deployments", "DELETE")):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'the table {table} is append-only'); END"
        )


def downgrade() -> None:
    """Refuse: data would be lost."""
    raise RuntimeError("a store is never migrated back; restore the backup made before the upgrade")
