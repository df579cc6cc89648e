"""The front of the package: remember what was learned, recall it where it fits, and let a person look after it."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO

from memory.credit.assignment import Assignment, all_served
from memory.credit.config import CreditConfig
from memory.credit.credit import Credit
from memory.credit.probation import on_trial
from memory.index.bm25 import BM25
from memory.index.embedder import CachedEmbedder, Embedder
from memory.index.indexes import Indexes, Progress
from memory.interchange import quota
from memory.interchange.remembering import remember
from memory.records import Advice, Recall, Reflection, now
from memory.retrieval import block
from memory.retrieval.advised import AdvisedStates
from memory.retrieval.retriever import ANSWERS, SEARCH, Hit, Retriever, Show, Use, Weights, candidates, plain, together
from memory.store.database import Database
from memory.store.detail import Detail
from memory.store.filters import ACTIVE, EVERYTHING, Filter
from memory.store.mending import Mending, Verb
from memory.text.cleaning import clean

Channel = Literal["text", "exemplar", "advice", "tool"]


class ReflectionMemory:
    """The long-term memory over a database, an embedder and an index file that can always be made again.

    Args:
        database: where everything is kept.
        embedder: turns texts into vectors; each text is computed once, then taken from the database.
        index_path: the file of the index. That of the states lies beside it (`name.states.suffix`).
        notify: is told, in a sentence, when an index had to be made again, and why.
        progress: is called with (done, total) while many texts are being embedded.
        weights: how recall weighs relevance, recency, importance, use and diversity.
        clock: gives the present moment as `records.now` does.
        namespace: whose memory it is. Every call keeps to it: what is written belongs to it, and what belongs to
            another is as if it were not there. Several share one database and one index.
        credit: how it is measured what each reflection changes.
        quota: how many active reflections a source other than the agent itself may bring in within 24 hours.

    Attributes:
        credit: what each reflection changes, as far as it was measured.
        use: how much each reflection helps, if something else than `credit` measures it.

    What `remember` and the other writing calls acknowledge is in the database when they return. Ids may be shortened
    wherever a person gives one. Threads may share one object. `close` (or `with`) saves the indexes; without it only
    time is lost.
    """

    def __init__(
        self,
        database: Database,
        embedder: Embedder,
        index_path: Path | str,
        *,
        notify: Callable[[str], None] | None = None,
        progress: Progress | None = None,
        weights: Weights | None = None,
        clock: Callable[[], str] = now,
        namespace: str = "",
        quota: int = quota.QUOTA,
        credit: CreditConfig | None = None,
    ):
        self.database = database
        self.quota = quota
        self.embedder = embedder if isinstance(embedder, CachedEmbedder) else CachedEmbedder(embedder, database)
        self.weights = weights or Weights()
        self.clock = clock
        self.namespace = namespace
        self.use: Use | None = None
        self.credit = Credit(database, credit, namespace=namespace, clock=clock)
        self._indexes = Indexes(database, self.embedder, Path(index_path), notify=notify, progress=progress)
        self.index, self.state_index = self._indexes.texts, self._indexes.states
        self._bm25 = BM25(database)
        self._retriever = Retriever(database, self.index, clock=clock)
        self._advised = AdvisedStates(database)

    def of(self, namespace: str) -> ReflectionMemory:
        """The same memory for another namespace: both have one database, one index and one embedder."""
        other = copy.copy(self)
        other.namespace = namespace
        other.credit = Credit(self.database, self.credit.config, namespace=namespace, clock=self.clock)
        return other

    # Remembering

    def remember(self, reflections: Sequence[Reflection]) -> list[str]:
        """Keep `reflections` in this namespace, all or none, and return their ids.

        One whose id is already there is left as it is, so that work repeated after a kill does not undo what a
        person has edited since. One that says again what another one says is counted there (see `memory.store`).
        Where another namespace has the id, it gets one of its own, always the same. Vectors are made at the next
        recall, many at once. Texts, goals and tags are cleaned of control characters and cut to a length.

        Raises:
            InvalidReflection: for one with neither text nor advice.
            QuotaExceeded: if a source other than the agent itself has brought in too many within a day.
        """
        return remember(self.database, reflections, namespace=self.namespace, limit=self.quota)

    def outcome(self, episode_id: str, won: bool) -> None:
        """Note how the episode ended that recalls have served. Not for errored ones: those say nothing."""
        self.database.recalls.set_outcome(episode_id, won)

    # Recalling

    def recall(
        self,
        query: str,
        *,
        episode: str,
        wanted: Filter = ACTIVE,
        k: int = 3,
        channel: Channel = "text",
        budget: int | None = None,
        count_tokens: block.Count = block.about,
        shorten: bool = True,
        record: bool = True,
        recorded: list[Recall] | None = None,
        credit: Credit | None = None,
        lots: bool = True,
    ) -> list[Hit]:
        """The `k` best for `query` of the reflections that are `wanted`, the best first; served to `episode`, which is
        recorded, under the environment that is wanted.

        Only what has a text and belongs to this namespace is served. `record=False` is for looking without serving.
        With a list `recorded` nothing is written: the records go there, for whoever stores them with the episode.

        With a `credit` what is on probation is recalled by lot, on train games (`lots`) alone
        (`memory.credit.probation`).

        With a `budget` only those are served, and recorded, whose texts fit into so many tokens together, as
        `count_tokens` counts them. If not even one fits, the first is shortened, unless `shorten` is false. What there
        is to show of a hit is its `text`, with its context in brackets. It is quoted: nothing in it can pass for a part
        of the prompt.
        """
        wanted, env = self._here(wanted, text_only=True), wanted.env or ""
        if credit is not None and not (lots and credit.config.probation):
            wanted = replace(wanted, on_probation=False)
        # The same episode asks with the same chance when it is resumed.
        use = self.use if credit is None else credit.use if lots else credit.worth
        shown = partial(block.render, channel=channel)

        def fitting(among: Filter) -> list[Hit]:
            hits = self._retrieve(query, k, among, self.weights, use, zlib.crc32(episode.encode()), shown)
            if budget is None:
                return hits
            texts = block.fill([hit.text for hit in hits], budget, count_tokens, shorten=shorten)
            return [replace(hit, text=text) for hit, text in zip(hits, texts, strict=True) if text]

        def lot(hits: Sequence[Hit]) -> list[Assignment]:
            ids = [hit.reflection.id for hit in hits]
            if credit is None or not lots:
                return all_served(ids)
            return credit.split(episode, ids, env=env, decided=recorded or ())

        hits = fitting(wanted)
        if not record or not hits:
            return hits
        chosen = list(zip(hits, lot(hits), strict=True))
        out = [(hit, draw) for hit, draw in chosen if draw.held_out and on_trial(draw)]
        if out and credit is not None:
            # What is on probation and held out takes no place: chosen is what there would be without its origin.
            admitted = credit.probation.admitted([draw for _, draw in chosen])
            hits = fitting(replace(wanted, on_probation=False, admitted=admitted))
            chosen = [*out, *zip(hits, lot(hits), strict=True)]
        moment = self.clock()
        recalls = [
            Recall(
                episode=episode, reflection=hit.reflection.id, rank=rank, query=clean(query), score=hit.score,
                parts=hit.parts, channel=channel, at=moment, env=env, held_out=draw.held_out,
                propensity=draw.propensity,
            )
            for rank, (hit, draw) in enumerate(chosen)
        ]  # fmt: skip
        if recorded is None:
            self.database.recalls.put(recalls)
        else:
            recorded.extend(recalls)
        return [hit for hit, draw in chosen if not draw.held_out]

    def search(self, query: str, *, k: int = 10, wanted: Filter = ACTIVE) -> list[Hit]:
        """What fits `query` best, for a person: relevance counts most, and nothing is recorded.

        Answers to one question are one hit, whose text tells them all.
        """
        wanted = self._here(wanted, text_only=True)
        looked = ANSWERS * k
        while True:
            hits = self._retrieve(query, looked, wanted, SEARCH)
            found = together(self.database, hits, k, wanted)
            if len(found) == k or len(hits) < looked:
                return found
            looked *= 4

    def similar_states(self, state: str, *, wanted: Filter = ACTIVE, k: int = 5) -> list[tuple[Advice, float, str]]:
        """Advice, of the reflections that are `wanted`, that gained something in the `k` states most like this one.

        Returns (advice, cosine of the states, reflection id), the most similar state first, and behind them those of
        what is on probation; several pieces of advice may speak of one state. The vectors of states are made at the
        first call, not while remembering.
        """
        wanted = self._here(wanted, advising=True)
        found = self._similar(state, wanted, k)
        trial = self.database.origins.on_probation([reflection for _, _, reflection in found])
        if not trial:
            return found
        # What is on probation takes no place of what there is without it.
        return self._similar(state, replace(wanted, on_probation=False), k) + [one for one in found if one[2] in trial]

    def _similar(self, state: str, wanted: Filter, k: int) -> list[tuple[Advice, float, str]]:
        with self.database.connection.held():  # the states that are compared are kept from one call to the next
            self._indexes.follow_states()
            near = dict(self.state_index.search(self.embedder.embed_query(state), k, only=self._advised.of(wanted)))
        place = {number: rank for rank, number in enumerate(near)}
        advice = sorted(self.database.reflections.state_advice(list(near), wanted), key=lambda item: place[item[0]])
        return [(item, near[number], reflection) for number, reflection, item in advice]

    def advice_for_task(
        self,
        task_id: str,
        *,
        wanted: Filter = ACTIVE,
        episodes: Collection[str] | None = None,
        newest: int | None = None,
    ) -> list[tuple[str, Advice]]:
        """All advice of the reflections of one task that are `wanted`: (reflection id, advice), the oldest first.

        `episodes` lets in only what rests on one of these, `newest` only so many reflections, the newest.
        """
        found = self.database.reflections.find(
            self._here(wanted, task=task_id, advising=True), limit=newest, newest=newest is not None
        )
        if newest is not None:
            found.reverse()
        return [
            (reflection.id, advice)
            for reflection in found
            if episodes is None or any(source.episode in episodes for source in reflection.evidence)
            for advice in reflection.advice
        ]

    # Looking after it

    def show(self, id: str) -> Detail:
        """The reflection with its versions, its recalls and the steps it rests on. Raises `UnknownReflection`."""
        return Detail.of(self.database, self.database.reflections.get(id, self.namespace))

    def pin(self, id: str) -> Reflection:
        """Count it as fully important, and keep it from being taken out of use by rule.

        Of one that only repeats another one it is that other one, which says it for both.
        """
        return self._mend("pin", id)

    def unpin(self, id: str) -> Reflection:
        """Undo `pin`."""
        return self._mend("unpin", id)

    def bench(self, id: str) -> Reflection:
        """Take it out of use as one that harms is: it is recalled no more. Raises `PinnedReflection`."""
        return self._mend("bench", id)

    def edit(self, id: str, text: str) -> Reflection:
        """Put another text in place of its text; the old one stays in its versions.

        Raises:
            InvalidReflection: if the text is empty, or too long to be kept whole. Then nothing changed.
        """
        self._mending.edit(id, text)
        self.follow()
        return self.database.reflections.get(id, self.namespace)

    def forget(self, id: str) -> Reflection:
        """Take it out of use. It is recalled no more, and can be restored.

        Raises:
            PinnedReflection: if a person has pinned it; `unpin` it first.
        """
        return self._mend("forget", id)

    def restore(self, id: str) -> Reflection:
        """Bring a forgotten, benched or retired one back into use."""
        return self._mend("restore", id)

    def export(self, target: Path | str | TextIO, *, wanted: Filter = EVERYTHING) -> int:
        """Write the reflections that are `wanted`, the oldest first; return how many. See
        `interchange.export_reflections`."""
        from memory.interchange.transfer import export_reflections

        return export_reflections(self.database, target, wanted=self._here(wanted))

    def count(self, wanted: Filter = ACTIVE) -> int:
        """How many reflections are `wanted`."""
        return self.database.reflections.count(self._here(wanted))

    def follow(self) -> None:
        """Bring the index of the texts up to date."""
        self._indexes.follow_texts()

    def save(self) -> None:
        """Bring the index of the texts up to date and write the index files now."""
        self.follow()
        self._indexes.save()

    def close(self) -> None:
        """Write the indexes as they are. The database stays open, since it was not opened here."""
        self._indexes.save()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Within

    def _here(self, wanted: Filter, **more: Any) -> Filter:
        """What is wanted, of this namespace."""
        return replace(wanted, namespace=self.namespace, **more)

    def _retrieve(
        self,
        query: str,
        k: int,
        wanted: Filter,
        weights: Weights,
        use: Use | None = None,
        seed: int = 0,
        shown: Show = plain,
    ) -> list[Hit]:
        # The words first: what they find is in the database before the index follows it.
        worded = self._bm25.search(query, candidates(k), wanted)
        self.follow()
        if not len(self.index):
            return []
        vector = self.embedder.embed_query(clean(query))
        if self.database.connection.in_transaction:
            # The index has not followed what is not committed.
            held = {number for number, _ in self.index.search(vector, len(worded), only=[n for n, _ in worded])}
            worded = [item for item in worded if item[0] in held]
        return self._retriever.retrieve(vector, k, wanted, weights, worded=worded, use=use, seed=seed, shown=shown)

    @property
    def _mending(self) -> Mending:
        return Mending(self.database, self.namespace, self.clock)

    def _mend(self, verb: Verb, id: str) -> Reflection:
        changed = self._mending.apply(verb, [id]).changed
        self.follow()
        return changed[0] if changed else self.database.reflections.get(id, self.namespace)
