"""Held-out parts for judging, path traced with Mitsuba 3.

What is learned on the emulated cell must not be judged on it alone, so nothing here is shared with ``drivers/sim``: not
a line of code, not a product, not a defect recipe, and the light transport is somebody else's renderer.
"""
