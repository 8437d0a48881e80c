"""A recipe can be removed; its versions stay, because results name them."""

import sqlalchemy as sa
from alembic import op

revision = "line_0002"
down_revision = "line_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the mark; nothing is removed yet."""
    op.add_column("recipes", sa.Column("removed", sa.Integer, nullable=False, server_default="0"))
