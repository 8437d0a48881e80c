"""The renderer: from a workpiece's maps and a lamp to the light that falls on each pixel."""
