"""Whether a Basler camera is still there, without asking it for a millisecond at every frame.

`InstantCamera.IsCameraDeviceRemoved` takes about 1.2 ms. The SDK also calls back when it notices a removal, at no cost,
but not always (pypylon issue #235). So the callback is looked at for each frame, and the question is asked as well,
at least every :data:`ASK_EVERY_S`, and whenever a frame does not come.
"""

from __future__ import annotations

from typing import Any

#: Often enough that a removal is seen within one part, whatever the callback does.
ASK_EVERY_S = 0.02


class RemovalWatch:
    """Watches one opened `InstantCamera`; keep it as long as the camera, which calls it (pypylon issue #576)."""

    def __init__(self, pylon: Any, camera: Any) -> None:
        self._camera = camera
        self._asked = 0.0
        self._gone = False
        watch = self

        class Handler(pylon.ConfigurationEventHandler):
            """Called on a thread of the SDK."""

            def OnCameraDeviceRemoved(self, camera: Any) -> None:  # noqa: N802 (the SDK's name)
                del camera
                watch._gone = True

        self._handler = Handler()
        camera.RegisterConfiguration(self._handler, pylon.RegistrationMode_Append, pylon.Cleanup_None)

    def gone(self, now_s: float) -> bool:
        """Tell whether the camera was removed, asking it when that was not done lately. Raises the SDK's error."""
        if not self._gone and now_s - self._asked >= ASK_EVERY_S:
            self._asked = now_s
            return self.asked()
        return self._gone

    def asked(self) -> bool:
        """Ask the camera now. Raises the SDK's error."""
        self._gone = self._gone or bool(self._camera.IsCameraDeviceRemoved())
        return self._gone

    def end(self) -> None:
        """Let the camera go. Raises the SDK's error."""
        self._camera.DeregisterConfiguration(self._handler)
