"""What pylon's emulated camera sees: the scene's picture, put before it as the next file that it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cell.errors import CameraError
from cell.frames import AcquisitionFault, Frame, Pixels
from cell.recipes import Channel, Recipe
from drivers.cameras.features import GenApiFeatures
from drivers.cameras.simulated_stage import deepen
from drivers.sim.folder_feed import FolderFeed

if TYPE_CHECKING:
    from drivers.sim.scene import Scene


class PylonStage:
    """The folder that an emulated camera reads, and proof that it read it. Of a real camera it is never set up."""

    def __init__(self, scene: Scene | None) -> None:
        self._scene = scene
        self.feed: FolderFeed | None = None
        self._shown: Pixels | None = None

    def set_up(self, features: GenApiFeatures, recipe: Recipe) -> None:
        """Let an emulated camera read its pictures from the folder. Raises `CameraError`."""
        if self._scene is None:
            return
        if self.feed is not None and self.feed.bit_depth != recipe.bit_depth:
            self.close()
        if self.feed is None:
            self.feed = FolderFeed(recipe.bit_depth)
        self.feed.put(deepen(np.zeros((recipe.height, recipe.width), np.uint8), recipe.bit_depth))
        features.write("TestImageSelector", "Off")
        features.write("ImageFilename", str(self.feed.folder))
        features.write("ImageFileMode", "On")

    def show(self, recipe: Recipe, channel: Channel) -> None:
        """Put what the scene shows now before the camera. Raises `CameraError`."""
        if self.feed is None or self._scene is None:
            return
        pixels = self._scene.picture(
            recipe.height, recipe.width, channel.exposure_us, channel.gain_db, recipe.bit_depth
        )
        pixels = deepen(pixels, recipe.bit_depth)
        self.feed.put(pixels)
        self._shown = pixels if channel.plane == "mono" else None

    def require_shown(self, frame: Frame) -> None:
        """Refuse a frame that is not the picture shown last with `CameraError`."""
        if self._shown is not None and not np.array_equal(self._shown, frame.pixels):
            raise CameraError(
                f"channel {frame.channel}: the emulated camera delivered another picture than was put before it",
                fault=AcquisitionFault.SWAPPED,
            )

    def close(self) -> None:
        """Remove the folder. May be called again."""
        if self.feed is not None:
            self.feed.close()
            self.feed = None
        self._shown = None
