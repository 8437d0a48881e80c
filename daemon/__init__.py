"""The always-on service of an inspection cell: judges every part, and gathers what its judge is made from."""

import os

# NumPy's linear algebra starts a thread for each core, which spin after every small product and take the cores from
# camera and engine. It reads this once, when it is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
