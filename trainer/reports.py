"""What the child tells the service: one JSON object a line through a pipe of their own.

The pipe is not stdout, which libraries write to. Its end tells the service that the child is gone, however it died.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from cell.base import Record
from cell.errors import JobError
from cell.jobs import Progress

#: Longest line taken, bytes.
MAX_LINE = 1 << 20


class Progressed(Record):
    """The job got on."""

    kind: Literal["progress"] = "progress"
    progress: Progress


class Finished(Record):
    """The job reached its end with this result."""

    kind: Literal["finished"] = "finished"
    result: dict[str, Any]


class Stopped(Record):
    """The job ended before its end, for a reason it knows."""

    kind: Literal["stopped"] = "stopped"
    error: str
    cancelled: bool = False


Report = Annotated[Progressed | Finished | Stopped, Field(discriminator="kind")]
_REPORT: TypeAdapter[Report] = TypeAdapter(Report)


def parse(line: bytes) -> Report:
    """Read one line. Raises `JobError` when it is not a report."""
    try:
        return _REPORT.validate_json(line)
    except ValidationError as error:
        raise JobError("the job's process wrote what is not a report; see its log and resume the job") from error


class ReportWriter:
    """The child's end of the pipe. A service that is gone is not the job's fault: writing then does nothing."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, report: Report) -> None:
        """Write one report, whole."""
        data = report.model_dump_json().encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except BrokenPipeError:
            return


class ReportReader:
    """The service's end of the pipe, never blocking."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._rest = b""
        self.ended = False

    def read(self) -> list[Report]:
        """Return the reports that have come since the last call. Raises `JobError` for what is not a report."""
        while not self.ended:
            try:
                data = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                break
            self.ended = not data
            self._rest += data
            if len(self._rest) > MAX_LINE:
                break
        *lines, self._rest = self._rest.split(b"\n")
        if len(self._rest) > MAX_LINE:
            self._rest = b""
            raise JobError("the job's process wrote a report that is too long; see its log and resume the job")
        return [parse(line) for line in lines if line]

    def close(self) -> None:
        """Close this end."""
        os.close(self._descriptor)
