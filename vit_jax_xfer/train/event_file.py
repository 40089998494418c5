"""TensorBoard's events of a run, written by the thread that has them.

tensorboardX hands events to a thread of its own. Once that can't write, as on a full disk, nobody
hears of it, the queue before it fills up, and the run waits for ever.
"""

import os
import pathlib
import time
from collections.abc import Mapping

_FLUSH_SECONDS = 120.0


class EventFile:
    """A new file of events in a folder; OSError from any call where it can't be written.

    first_step: TensorBoard forgets what earlier files say about the steps from this one on.
    """

    def __init__(self, folder: pathlib.Path, first_step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        # Two starts in one second have two names.
        self._file = EventsWriter(str(folder / "events"), f".{os.getpid()}")
        self._flushed = time.monotonic()
        log = SessionLog(status=SessionLog.START)
        self._file.write_event(Event(step=first_step, file_version="brain.Event:2"))
        self._file.write_event(Event(step=first_step, session_log=log))

    def add(self, step: int, kind: str, numbers: Mapping[str, float]) -> None:
        """Scalars of a step under the tags "kind/name"."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in numbers.items():
            summary = scalar(f"{kind}/{name}", value)
            self._file.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def add_picture(self, step: int, tag: str, png: bytes, size: tuple[int, int]) -> None:
        """A picture of a step, of (height, width) pixels, as a PNG file's bytes."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        image = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=png)
        summary = Summary(value=[Summary.Value(tag=tag, image=image)])
        self._file.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        self.flush()

    def flush(self) -> None:
        """Writes what is still in memory."""
        self._flushed = time.monotonic()
        self._file.flush()

    def close(self) -> None:
        """The same, and no more after it."""
        self._file.close()
