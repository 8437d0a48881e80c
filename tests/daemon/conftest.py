"""The pylon SDK offers its emulated camera when this is set before it is first asked."""

from __future__ import annotations

import os

os.environ["PYLON_CAMEMU"] = "1"
