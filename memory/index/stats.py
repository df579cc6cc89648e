"""How an index stands: what is in it, how it is searched, and what that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class IndexStats:
    """The state of an index.

    Attributes:
        kind: how it is searched: `flat` reads every vector, `hnsw` follows a graph.
        items: how many texts are in it.
        vectors: how many different vectors they have.
        dead: vectors that no text has any more; they are thrown out when they are a third of all.
        graphed: how many vectors the graph holds; it serves when it has reached them all and was measured.
        threshold: from how many vectors on a graph is made.
        recall: the share of the ten nearest that the graph finds, measured on a sample; None without a graph.
        list_length: how many candidates a search of the graph keeps in view (efSearch); 0 while it does not serve.
        bytes: what all of it takes in memory.
        model: the embedder's name.
    """

    kind: Literal["flat", "hnsw"]
    items: int
    vectors: int
    dead: int
    graphed: int
    threshold: int
    recall: float | None
    list_length: int
    bytes: int
    dimensions: int
    model: str
