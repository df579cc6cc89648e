"""The adapters of a lab: where each came from, how it did at its gate, and which one serves.

The database holds the records, the folder `adapters/` beside it the weights. Ids follow from the weights, every change
is one transaction, and each can be repeated: a kill in the middle of a promotion is mended by promoting again.
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from memory.records import now
from trainers import job as jobs
from trainers.adapters import cards
from trainers.adapters.files import check_files
from trainers.adapters.record import AdapterRecord, AdapterStatus, Change, identity
from trainers.adapters.table import AdapterTable
from trainers.config import BaseRef
from trainers.errors import (
    AdapterInUse,
    BadAdapter,
    NotAJob,
    NothingToRollBack,
    PromotionRefused,
    UnknownAdapter,
    WrongBase,
)
from trainers.gate.gate import GateResult
from trainers.lineage import Lineage
from trainers.training import seal as seals
from trainers.training.disk import room_on_disk

if TYPE_CHECKING:
    from memory.store import Database

SERVING = "serving adapter"
"""The setting that names the adapter in use; None is the base model."""

BEFORE = "adapters that served before"
"""The setting that rollback takes from: adapters, the latest last; None is the base model."""

HISTORY = "serving history"
"""The setting that keeps every change of the serving adapter."""


class AdapterRegistry:
    """The adapters of the lab in `folder`, recorded in its `database`."""

    def __init__(self, database: Database, folder: Path | str) -> None:
        self.database = database
        self.records = AdapterTable(database.connection)
        self.folder = Path(folder)
        self._served: dict[str, dict[str, int]] = {}
        self._trained: dict[str, frozenset[str]] = {}

    # Looking

    def list(self, status: AdapterStatus | None = None) -> list[AdapterRecord]:
        """All adapters, or those of one status, oldest first."""
        return self.records.find(status)

    def get(self, adapter: str) -> AdapterRecord:
        """The adapter with this id, or whose id begins so if there is only one.

        The part of an id before its first hyphen can be left out. Raises UnknownAdapter.
        """
        record = self.records.get(adapter)
        if record is not None:
            return record
        ids = [record.id for record in self.list()]
        found = [id for id in ids if adapter and (id.startswith(adapter) or id.partition("-")[2].startswith(adapter))]
        if len(found) == 1:
            return self.get(found[0])
        if found:
            raise UnknownAdapter(
                f"{adapter!r} fits {len(found)} adapters: {', '.join(found[:4])}; give more of the id of one"
            )
        near = difflib.get_close_matches(adapter, ids, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {len(ids)}; list them first"
        raise UnknownAdapter(f"no adapter has the id {adapter!r}; {hint}")

    def serving(self) -> str | None:
        """The id of the adapter in use; None for the base model."""
        serving: str | None = self.database.settings.get(SERVING)
        return serving

    def history(self) -> Sequence[Change]:
        """Every change of the serving adapter, oldest first."""
        return [Change.model_validate(change) for change in self.database.settings.get(HISTORY) or ()]

    def returning(self) -> Sequence[str | None]:
        """What rollbacks would let serve, the next one last; None is the base. Empty: nothing can be rolled back."""
        before = [*self._before()]
        # What was put away since must not come back.
        while before and before[-1] is not None and self.get(before[-1]).status in ("retired", "rejected"):
            before.pop()
        return before

    def served(self, record: AdapterRecord) -> dict[str, int]:
        """In how many of the episodes that an adapter was trained on each reflection served. Looked up once: these
        episodes have ended."""
        if record.id not in self._served:
            self._served[record.id] = self.database.recalls.served_in(record.lineage.episodes)
        return self._served[record.id]

    def trained(self, record: AdapterRecord) -> frozenset[str]:
        """The episodes that an adapter was trained on, and those of which these are shortened forms."""
        if record.id not in self._trained:
            rows = self.database.episodes.rows(record.lineage.episodes)
            whole = [row.minimised_from for row in rows if row.minimised_from]
            self._trained[record.id] = frozenset([*record.lineage.episodes, *whole])
        return self._trained[record.id]

    def folder_of(self, adapter: str, base: str | None = None) -> Path:
        """Where an adapter's weights lie, checked.

        `base` is the fingerprint of the model that it is to be laid on. Raises UnknownAdapter, BadAdapter if files are
        missing, damaged, or those of another adapter, WrongBase if it was made for another model.
        """
        record = self.get(adapter)
        if base is not None and base != record.fingerprint:
            raise WrongBase(
                f"adapter {record.id} was made for {record.base} ({record.fingerprint[:12]}), not for the model at "
                f"hand ({base[:12]}); an adapter fits only its own base; load that one or train a new adapter"
            )
        folder = self.folder / record.path
        check_files(folder)
        # Its canary lies in the same folder: it cannot tell that the whole folder is another adapter's.
        if record.weights and _sha(folder) != record.weights:
            raise BadAdapter(
                f"{folder} does not hold the weights of {record.id}; they were swapped or changed after it was "
                "registered; put its own files back or train it again"
            )
        return folder

    # Changing

    def register(self, job_folder: Path | str, lineage: Lineage | None = None) -> AdapterRecord:
        """Take over the adapter of a finished job as a candidate; `lineage` replaces the one in the job folder.

        Doing it again changes nothing. Raises NotAJob if the job is not done, BadAdapter if its files are not right.
        """
        job, outcome = jobs.load(job_folder), jobs.result(job_folder)
        if outcome is None:
            raise NotAJob(f"{job_folder} is not trained to its end; an adapter comes out last; run the job first")
        return self.add(
            outcome.adapter,
            job.config.base,
            lineage or job.lineage,
            job=job.id,
            settings=job.config.model_dump(mode="json", exclude={"base"}),
            training=_numbers(outcome.report),
        )

    def add(self, folder: Path, base: BaseRef, lineage: Lineage, **known: Any) -> AdapterRecord:
        """Take over a copy of the adapter in `folder`, made for `base`, as a candidate; `known` are more of the
        record's fields.

        Doing it again changes nothing. Raises BadAdapter if its files are not right.
        """
        check_files(folder)
        weights = _sha(folder)
        adapter = identity(base.fingerprint, weights)
        path = f"adapters/{adapter}"
        place = self.folder / path
        if not place.exists():
            beside = place.with_name(place.name + ".partial")
            with room_on_disk(self.folder):
                shutil.rmtree(beside, ignore_errors=True)
                shutil.copytree(folder, beside)
                os.replace(beside, place)
        with self.database.transaction():
            record = self.records.get(adapter)
            if record is None:
                record = AdapterRecord(
                    id=adapter,
                    parent=lineage.parent,
                    base=base.name,
                    fingerprint=base.fingerprint,
                    path=path,
                    weights=weights,
                    lineage=lineage,
                    **known,
                )
                self.records.put(record)
        self.write_card(record.id)
        return record

    def promote(self, adapter: str, gate: GateResult | None = None, force: bool = False) -> AdapterRecord:
        """Let an adapter serve. Promoting the one that serves changes nothing but its record.

        Without `gate` the one it stood at before counts. Raises PromotionRefused unless the gate was passed or `force`
        is given, UnknownAdapter, BadAdapter.
        """
        with self.database.transaction():
            record = self.get(adapter)
            gate = gate or record.gate
            passed = gate is not None and gate.promote
            if not passed and not force:
                reason = gate.reason if gate is not None else "it was not evaluated at a gate"
                raise PromotionRefused(
                    f"adapter {record.id} may not serve; {reason}; run a round to gate it, or force the promotion"
                )
            self.folder_of(record.id)
            record = record.model_copy(update={"status": "promoted", "gate": gate, "forced": not passed})
            self.records.put(record)
            before = self.serving()
            if before != record.id:
                self.database.settings.put(BEFORE, [*self._before(), before])
                self._serve(record.id, before, "promoted")
        self.write_card(record.id)
        return record

    def reject(self, adapter: str, gate: GateResult | None = None) -> AdapterRecord:
        """Keep an adapter, marked as not good enough; rollback passes over it. Raises AdapterInUse if it serves."""
        return self._end(adapter, "rejected", gate)

    def retire(self, adapter: str) -> AdapterRecord:
        """Keep an adapter, but never serve it again, not by rollback either. Raises AdapterInUse if it serves."""
        return self._end(adapter, "retired", None)

    def rollback(self) -> str | None:
        """Let the adapter serve that served before the present one, which is retired; None is the base model.

        Raises NothingToRollBack if none has served before.
        """
        with self.database.transaction():
            serving, before = self.serving(), [*self.returning()]
            if not before:
                raise NothingToRollBack(
                    "nothing served before the present model; only a promotion can be undone; promote an adapter first"
                )
            target = before.pop()
            if serving is not None:
                self.records.put(self.get(serving).model_copy(update={"status": "retired"}))
            self.database.settings.put(BEFORE, before)
            self._serve(target, serving, "rolled back")
        if serving is not None:
            self.write_card(serving)
        return target

    def write_card(self, adapter: str) -> None:
        """Write the adapter's card, its README.md, beside its weights; every change of its status does it.

        It follows from the record and the serving history, so that it can be written again at any time.
        """
        record = self.get(adapter)
        folder = self.folder / record.path
        if folder.is_dir():  # else there are no weights that it could stand beside; whoever loads it is told so
            with room_on_disk(folder):
                cards.write(folder, self.card(record.id))

    def card(self, adapter: str, *, loading: str | None = None) -> str:
        """The adapter's card, as Markdown; `loading` stands in the place of what it says of loading."""
        record = self.get(adapter)
        served = any(change.serving == record.id for change in self.history())
        return cards.card(self.database, record, self.folder / record.path, served=served, loading=loading)

    def _end(self, adapter: str, status: AdapterStatus, gate: GateResult | None) -> AdapterRecord:
        with self.database.transaction():
            record = self.get(adapter)
            if record.id == self.serving():
                raise AdapterInUse(f"adapter {record.id} serves; it cannot be {status} meanwhile; roll back first")
            record = record.model_copy(update={"status": status, "gate": gate or record.gate})
            self.records.put(record)
        self.write_card(record.id)
        return record

    def _before(self) -> tuple[str | None, ...]:
        return tuple(self.database.settings.get(BEFORE) or ())

    def _serve(self, adapter: str | None, before: str | None, event: Literal["promoted", "rolled back"]) -> None:
        self.database.settings.put(SERVING, adapter)
        change = Change(at=now(), event=event, serving=adapter, before=before)
        self.database.settings.put(HISTORY, [*(item.model_dump() for item in self.history()), change.model_dump()])


def _numbers(report: jobs.Report) -> dict[str, Any]:
    """A report without its curves: of them the first loss, and the last ten steps' mean."""
    last = report.losses[-10:]
    ends = {"first_loss": report.losses[0], "last_loss": sum(last) / len(last)} if last else {}
    return report.model_dump(mode="json", exclude={"losses", "measures"}) | ends


def _sha(folder: Path) -> str:
    return seals.sha256(folder / "adapter_model.safetensors")
