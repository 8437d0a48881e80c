"""All rendered products by name, and how a setting such as ``disc-4+ring`` names one with its lights."""

from __future__ import annotations

from cell.errors import ConfigurationError
from drivers.sim.products.blueprint import Blueprint
from drivers.sim.products.metal import BRUSHED, CAST, DISC
from drivers.sim.products.moulded import FOIL, LABEL, MOULDED
from drivers.sim.render.lamps import Lamp, rig

PRODUCTS: dict[str, Blueprint] = {product.name: product for product in (DISC, BRUSHED, CAST, MOULDED, LABEL, FOIL)}


def named(description: str) -> tuple[Blueprint, tuple[Lamp, ...]]:
    """Return the product and lamps of ``NAME`` (four bars) or ``NAME-LIGHTS``. Raises `ConfigurationError`."""
    name, _, lights = description.partition("-")
    if name not in PRODUCTS:
        raise ConfigurationError(
            f"there is no emulated product {description!r}; use folder, plate-K, or one of {', '.join(PRODUCTS)} with "
            "its lights, such as disc-4+ring"
        )
    return PRODUCTS[name], rig(lights or "4")
