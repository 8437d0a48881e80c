"""Backgrounds and seed proposals out of the parts that the line judges anyway; `harvester` is the way in."""
