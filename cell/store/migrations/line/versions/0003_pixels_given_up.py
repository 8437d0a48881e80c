"""An archived picture can be given up; its row stays and says so."""

import sqlalchemy as sa
from alembic import op

revision = "line_0003"
down_revision = "line_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the mark, and an index of what still has pixels: what is gone would be passed over one by one."""
    op.add_column("archived", sa.Column("pixels", sa.Integer, nullable=False, server_default="1"))
    op.create_index("archived_pixels", "archived", ["outcome", "number"], sqlite_where=sa.text("pixels = 1"))
