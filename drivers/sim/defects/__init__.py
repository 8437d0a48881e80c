"""Defects as changes of height, albedo, roughness and outline; `drivers.sim.defects.catalogue` lists them."""
