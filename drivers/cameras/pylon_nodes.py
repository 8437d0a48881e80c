"""pylon's node maps as `drivers.cameras.features.NodeMap`, and its names of pixel formats."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cell.errors import CameraError


class CameraNodes:
    """The features of a camera while it is open."""

    snake_case = False

    def __init__(self, error: type[Exception]) -> None:
        self.errors: tuple[type[Exception], ...] = (error,)
        self._map: Any = None
        self._hidden: frozenset[str] = frozenset()

    def attach(self, node_map: Any, *, emulated: bool) -> None:
        """Use an open camera's node map."""
        self._map = node_map
        # pylon's emulator has exposure under both names, and only the older one has an effect: it exposes for 10 ms
        # whatever is written to, and read back from, the other (measured with pypylon 26.9).
        self._hidden = frozenset({"ExposureTime"}) if emulated and self.find("ExposureTimeAbs") else frozenset()

    def detach(self) -> None:
        """Let it go before the camera is closed."""
        self._map = None

    def find(self, name: str) -> Any | None:
        """See `drivers.cameras.features.NodeMap`."""
        return None if name in self._hidden else _valid(self._open().GetNode(name))

    def all_names(self) -> Iterable[str]:
        """See `drivers.cameras.features.NodeMap`."""
        nodes = (node.GetNode() for node in self._open().GetNodes())
        return [str(node.GetName()) for node in nodes if node.IsFeature()]

    def _open(self) -> Any:
        if self._map is None:
            raise CameraError("the camera is not open; check its cable and power")
        return self._map


class ResultNodes:
    """The chunk data of one grab result."""

    snake_case = False

    def __init__(self, result: Any, error: type[Exception]) -> None:
        self.errors: tuple[type[Exception], ...] = (error,)
        self._result = result

    def find(self, name: str) -> Any | None:
        """See `drivers.cameras.features.NodeMap`."""
        if not self._result.IsChunkDataAvailable():
            return None
        return _valid(self._result.GetChunkDataNodeMap().GetNode(name))

    def all_names(self) -> Iterable[str]:
        """See `drivers.cameras.features.NodeMap`."""
        if not self._result.IsChunkDataAvailable():
            return []
        nodes = (node.GetNode() for node in self._result.GetChunkDataNodeMap().GetNodes())
        return [str(node.GetName()) for node in nodes if node.IsFeature()]


def format_names(pylon: Any) -> dict[int, str]:
    """Return the name of each pixel type that pylon knows, as `drivers.cameras.formats` reads it."""
    prefix = "PixelType_"
    return {int(getattr(pylon, name)): name.removeprefix(prefix) for name in dir(pylon) if name.startswith(prefix)}


def _valid(node: Any) -> Any | None:
    return node if node is not None and node.IsValid() else None
