"""Exporting: the episodes of a lab into the folder of a data set, read once for each config, a few at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentlab.datasets import folder as folders
from agentlab.datasets import parquet
from agentlab.datasets.card import CARD, card
from agentlab.datasets.choosing import pairs, wins
from agentlab.datasets.redaction import Redact, Redaction
from agentlab.datasets.rows import Row, episode_row, messages_row, pair_row, tokens_row
from agentlab.datasets.schemas import EPISODES, PREFERENCES, SFT, SFT_TOKENS, SPLITS, schemas
from agentlab.errors import BadConfig
from agentlab.grid import Grid
from agentlab.progress import counted
from agentlab.workspace.starts import known_starts
from memory.records import Episode
from memory.store import ALL_EPISODES, EpisodeFilter

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace

TEXTS = 10_000
"""Reflections whose text is kept at hand."""


@dataclass(repr=False)
class Exported(Grid):
    """A data set that was written.

    Attributes:
        folder: where it lies.
        rows: how many rows each split of each config has; one without any is not there.
        left_out: how many wins are not in a config, by reason.
    """

    folder: Path
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def grid(self) -> list[list[str]]:
        """A line for each config."""
        counts = [[config, *(f"{splits.get(name, 0):,}" for name in SPLITS.values())] for config, splits in
                  self.rows.items()]  # fmt: skip
        return [["config", *SPLITS.values()], *counts]


def export_episodes(
    workspace: Workspace,
    folder: Path | str,
    *,
    wanted: EpisodeFilter = ALL_EPISODES,
    redact: Redact | None = None,
) -> Exported:
    """Write the episodes that are `wanted` into `folder`, as a data set that `datasets.load_dataset` loads from there.

    Its configs: `episodes`, all of them but those that errored, unless just these are asked for; `sft` and
    `sft_tokens`, the best wins of the train fold as messages and as tokens; `preferences`, pairs of that fold. Every
    text goes through `redact`. The lab is only read, beside whoever writes to it, as it is now. The folder is written
    whole or not at all; one that an earlier export wrote is replaced.

    Raises BadConfig for a folder that holds anything else and where no episode is wanted, RedactionFailed,
    MissingPackage without pyarrow.
    """
    target, (pa, _) = folders.checked(folder), parquet.pyarrow()
    redaction, done = Redaction(redact), Exported(target)
    with workspace.database.transaction(), folders.written_whole(target) as beside:
        parts = _Parts(workspace, wanted, redaction)
        for config, split, rows in parts.all():
            path = beside / config / f"{split}.parquet"
            if count := parquet.write(path, schemas(pa)[config], rows):
                done.rows.setdefault(config, {})[split] = count
        if EPISODES not in done.rows:
            raise BadConfig("No episode fits that has come to its end, so nothing was written; `agentlab episodes` "
                            "lists those that there are.")  # fmt: skip
        done.left_out = {config: dict(reasons) for config, reasons in parts.left_out.items() if reasons}
        text = card(done.rows, wanted, redacted=redact is not None, version=metadata.version("agentlab"))
        (beside / CARD).write_text(text, encoding="utf-8")
    return done


class _Row(NamedTuple):
    id: str


class _Parts:
    """The rows of each config and split of one export."""

    def __init__(self, workspace: Workspace, wanted: EpisodeFilter, redaction: Redaction) -> None:
        self.workspace, self.database = workspace, workspace.database
        self.wanted, self.redaction = wanted, redaction
        self.left_out: dict[str, Counter[str]] = {SFT: Counter(), SFT_TOKENS: Counter()}
        self.trained: dict[str, list[dict[str, str | None]]] = defaultdict(list)
        for record in workspace.adapters.list():
            for id in dict.fromkeys(record.lineage.episodes):
                self.trained[id].append({"adapter": record.id, "round": record.lineage.round})
        self.reflection = lru_cache(TEXTS)(self._reflection)

    def all(self) -> Iterator[tuple[str, str, Iterable[Row]]]:
        """Config, split and rows, which are made while they are taken."""
        for fold, split in SPLITS.items():
            if self.wanted.split in (None, fold):
                yield EPISODES, split, self.episodes(replace(self.wanted, split=fold), split)
        held_out = known_starts(self.workspace)
        making: list[tuple[str, Callable[[Episode], Row | None], str]] = [
            (SFT, messages_row, "not admissible in each action"),
            (SFT_TOKENS, tokens_row, "without the tokens of a model"),
        ]
        for config, make, why_not in making:
            rows = wins(
                self.database,
                self.wanted,
                held_out,
                partial(self._made, make),
                why_not=why_not,
                left_out=self.left_out[config],
                refined=config == SFT,
            )
            yield config, SPLITS["train"], rows
        yield PREFERENCES, SPLITS["train"], self.preferences(held_out)

    def _made(self, make: Callable[[Episode], Row | None], episode: Episode) -> Row | None:
        return make(self.redaction.episode(episode))

    def episodes(self, wanted: EpisodeFilter, split: str) -> Iterator[Row]:
        """Every episode of a fold that is wanted."""
        ids = [row.id for row in self.database.episodes.select(_Row, wanted)]
        tell = counted(self.workspace.progress, f"exporting {split} episodes", few=500)
        for done, episode in enumerate(self.database.episodes.each(ids), 1):
            tell(done, len(ids))
            if episode.status == "errored" and wanted.status != "errored":
                continue
            recalled = [{"reflection": id, "text": self.reflection(id)} for id in episode.recalled]
            yield episode_row(self.redaction.episode(episode), recalled, self.trained.get(episode.id, ()))

    def preferences(self, held_out: frozenset[tuple[str, str]]) -> Iterator[Row]:
        """Pairs of the train fold, of those where something is to be preferred."""
        for pair in pairs(self.database, self.wanted, held_out):
            sides: dict[str, Any] = {
                "better": self.redaction.episode(pair.better),
                "worse": self.redaction.episode(pair.worse),
            }
            row = pair_row(pair.model_copy(update=sides))
            if row is not None:
                yield row

    def _reflection(self, id: str) -> str:
        """The text of a reflection, as it stands now; empty if it was deleted since."""
        reflections = self.database.reflections
        return self.redaction.text(reflections.get(id).text, f"reflection {id}") if reflections.has(id) else ""
