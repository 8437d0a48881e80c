"""Ways of making defects: one plan, one compositor, one contract, and an arm for each way.

No arm may ask a network for anything. The libraries that could read this when they are loaded.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
