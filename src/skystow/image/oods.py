"""The OODS: has each file that it is asked for registered, and says what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from skystow.image.standing import Standing
from skystow.model.acts import Do, Effect, Expire, Ingest, Mark, Milestone, Note, Say
from skystow.model.lifecycle import Summary
from skystow.model.messages import FileIngestRequest, ImageInOODS, Message, lawful_obsid
from skystow.model.reports import Ingested, IngestFailed, PassEnded

DESCRIPTION = 250
"""Characters of a description; SAL's field takes 256."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`expire_every` None: nothing expires."""

    address: str = "oods"
    reply_to: str = "archiver"
    expire_every: timedelta | None = None
    initial_state: str = "enabled"


class Oods(Standing):
    """A step is a request that is not answered; the answer closes the talk when it was the last of its exposure."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("oods", settings.address, initial_state=settings.initial_state)
        self.settings = settings
        self._asked: dict[str, dict[str, FileIngestRequest]] = {}
        self._doing: set[str] = set()
        self._expire_at: datetime | None = None
        self._expiring = False

    def restore(self, steps: Sequence[tuple[datetime, Message]], kept: Mapping[str, str]) -> None:
        super().restore(steps, kept)
        self._asked.clear()
        for at, message in steps:
            self.hear(message, at)
        self._doing.clear()
        self._expire_at, self._expiring = None, False

    def hear(self, message: Message, now: datetime) -> list[Effect]:
        match message:
            case FileIngestRequest(obsid=obsid, filename=filename):
                asked = self._asked.setdefault(lawful_obsid(obsid), {})
                if filename in asked:
                    return []
                asked[filename] = message
                return [Note(message), *self.due(now)]
            case Ingested(obsid, filename, raft, sensor, already):
                text = f"{filename}: {'ingested already' if already else 'file ingested'}"
                mark = Mark(obsid, Milestone.INGESTED, _detector(raft, sensor))
                return self._answer(message, obsid, filename, 0, text, mark)
            case IngestFailed(obsid, filename, raft, sensor, code, reason, moved_to):
                text = f"{filename}: {reason}" + (f"; moved to {moved_to}" if moved_to else "")
                mark = Mark(obsid, Milestone.FAULT, _detector(raft, sensor), number=code, text=text)
                return self._answer(message, obsid, filename, code, text, mark)
            case PassEnded():
                self._expiring = False
        return []

    def _answer(self, report: Message, obsid: str, filename: str, code: int, text: str, mark: Mark) -> list[Effect]:
        self._doing.discard(filename)
        asked = self._asked.get(obsid, {})
        if (request := asked.pop(filename, None)) is None:
            return []
        if not asked:
            del self._asked[obsid]
        # What the request said of the file, so that a failure can be tied to it too.
        said = ImageInOODS(
            request.camera,
            request.archiver,
            obsid,
            request.raft,
            request.sensor,
            filename,
            code,
            text if len(text) <= DESCRIPTION else "…" + text[1 - DESCRIPTION :],
        )
        return [Note(report, closes=not asked), Say(request.reply_to or self.settings.reply_to, said), mark]

    def due(self, now: datetime) -> list[Effect]:
        effects: list[Effect] = []
        for asked in self._asked.values():
            for filename, request in asked.items():
                if filename not in self._doing:
                    self._doing.add(filename)
                    effects.append(Do(Ingest(request)))
        enabled = self.state is Summary.ENABLED  # nothing is removed by somebody who was told to rest
        if enabled and self.settings.expire_every and (self._expire_at is None or self._expire_at <= now):
            self._expire_at = now + self.settings.expire_every
            if not self._expiring:
                self._expiring = True
                effects.append(Do(Expire()))
        return effects

    def next_due(self) -> datetime | None:
        return self._expire_at if self.state is Summary.ENABLED else None


def _detector(raft: str, sensor: str) -> str:
    return f"R{raft}_S{sensor}" if raft else ""
