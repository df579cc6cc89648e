"""Why a reflection would be recalled: both searches' ranks, their fusion, credit, and the order of the choice."""

from __future__ import annotations

from pydantic import BaseModel

from agentlab.workspace.workspace import Workspace
from memory.store import Filter
from memory.text import clean

CHOSEN = 10
"""So many are chosen; as many as this, or fewer, have the same candidates."""


class Chosen(BaseModel):
    """A reflection that was chosen, with each part of its score.

    Of both searches the rank among the candidates (None: not found) and what it is of: the cosine, and BM25. `rrf` is
    their fusion, `relevance` the same in [0, 1]; `use` is the mean uplift in the environment (None: nothing is
    measured). `overlap` is the likeness to what was chosen before, which counts against it.
    """

    id: str
    text: str
    env: str
    kind: str
    status: str
    cosine: float
    cosine_rank: float | None
    bm25: float
    bm25_rank: float | None
    rrf: float
    relevance: float
    recency: float
    importance: float
    use: float | None
    score: float
    overlap: float
    explanation: str


class WhyRecalled(BaseModel):
    """What a query recalls in an environment, in the order of choice; `weights` say how the parts of a score count."""

    query: str
    env: str
    weights: dict[str, float]
    chosen: list[Chosen]


def why_recalled(workspace: Workspace, query: str, env: str = "", kind: str = "") -> WhyRecalled:
    """What would be recalled for a query in an environment (empty: in any), of one kind, as play recalls it, but that
    chance has no part: in the place of a sample the mean of what is believed of each uplift.

    This loads the lab's embedder.
    """
    memory = workspace.memory
    wanted = Filter(env=env or None, kinds=[kind] if kind else None)
    hits = memory.recall(
        clean(query), episode="", wanted=wanted, k=CHOSEN, record=False, credit=memory.credit, lots=False
    )  # fmt: skip
    chosen = [
        Chosen(
            id=hit.reflection.id,
            text=clean(hit.reflection.text),
            env=hit.reflection.env,
            kind=hit.reflection.kind,
            status=hit.reflection.status,
            cosine_rank=hit.parts["cosine_rank"] or None,
            bm25_rank=hit.parts["bm25_rank"] or None,
            use=hit.parts.get("use"),
            score=hit.score,
            explanation=hit.explanation,
            **{name: hit.parts[name] for name in ("cosine", "bm25", "rrf", "relevance", "recency", "importance")},
            overlap=hit.parts.get("overlap", 0.0),
        )
        for hit in hits
    ]
    names = ("relevance", "recency", "importance", "use", "diversity")
    return WhyRecalled(
        query=query, env=env, weights={name: getattr(memory.weights, name) for name in names}, chosen=chosen
    )
