"""The products that the renderer knows; `drivers.sim.products.catalogue` lists them."""
