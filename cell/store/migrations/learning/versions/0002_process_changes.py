"""Changes of the process, suspected or declared; append-only, a later row with the same id moves it on."""

import sqlalchemy as sa
from alembic import op

revision = "learning_0002"
down_revision = "learning_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and the triggers that make it append-only."""
    op.create_table(
        "process_changes",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("recipe_id", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("process_changes_recipe", "process_changes", ["recipe_id", "number"])
    refuse = "BEGIN SELECT RAISE(ABORT, 'the table process_changes is append-only'); END"
    op.execute(f"CREATE TRIGGER process_changes_no_update BEFORE UPDATE ON process_changes {refuse}")
    op.execute(f"CREATE TRIGGER process_changes_no_delete BEFORE DELETE ON process_changes {refuse}")
    op.execute(
        "CREATE TRIGGER process_changes_no_replace BEFORE INSERT ON process_changes "
        f"WHEN EXISTS (SELECT 1 FROM process_changes WHERE number = NEW.number) {refuse}"
    )


def downgrade() -> None:
    """Refuse: data would be lost."""
    raise RuntimeError("a store is never migrated back; restore the backup made before the upgrade")
