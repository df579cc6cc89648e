"""Token trees in one batch: what several sequences begin with goes through the model once.

A pair of answers shares its prompt and every candidate of every step shares the transcript before it. Each token sees
what leads to it and nothing else, at the position that it has in its own sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from trainers.objectives.losses import head_only_at
from trainers.objectives.tree import TokenTree

if TYPE_CHECKING:
    import torch

    from trainers.data.records import Distilled, Pair


class Branched(NamedTuple):
    """Trees padded on the right. `token_ids` and `positions` have the shape (trees, most nodes).

    `visible` (trees, nodes, nodes) is true where the row's node sees the column's. The rest describes what is asked:
    of the distribution at `nodes` (of the flattened trees) the log-probability of `tokens`, to be summed over the
    sequence numbered `sequences`; all three of shape (asked,). `lengths` (sequences,) counts what is asked of each.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor
    nodes: torch.Tensor
    tokens: torch.Tensor
    sequences: torch.Tensor
    lengths: torch.Tensor


def of_pair(pair: Pair) -> TokenTree:
    """The tree of both sides; its sequences are the chosen tokens of the better side, then those of the worse."""
    tree = TokenTree()
    for side in (pair.better, pair.worse):
        tree.add(side.token_ids)
        tree.edges[-1] = [edge for edge, weight in zip(tree.edges[-1], side.weights, strict=True) if weight]
    return tree


def of_choices(record: Distilled) -> TokenTree:
    """The transcript with the candidates of every choice; its sequences are the candidates, choice after choice."""
    tree = TokenTree()
    trunk = tree.follow(record.example.token_ids[: max(choice.at for choice in record.choices)])
    for choice in record.choices:
        for candidate in choice.candidates:
            tree.add(candidate, after=trunk[choice.at - 1])
    return tree


def lay_out(trees: Sequence[TokenTree], pad: int = 0) -> Branched:
    """Pad trees into one batch. `pad` is the id that fills the gaps; nothing asked ever sees it."""
    import torch

    most = max(len(tree) for tree in trees)
    token_ids = torch.full((len(trees), most), pad, dtype=torch.long)
    positions = torch.zeros((len(trees), most), dtype=torch.long)
    # Padding sees itself, or its attention would be no number.
    visible = torch.eye(most, dtype=torch.bool).repeat(len(trees), 1, 1)
    asked: list[tuple[int, int, int]] = []
    lengths: list[int] = []
    for row, tree in enumerate(trees):
        token_ids[row, : len(tree)] = torch.tensor(tree.tokens)
        positions[row, : len(tree)] = torch.tensor(tree.depths)
        visible[row, : len(tree), : len(tree)] = tree.visible()
        for edges in tree.edges:
            asked += [(row * most + node, token, len(lengths)) for node, token in edges]
            lengths.append(len(edges))
    nodes, tokens, sequences = torch.tensor(asked).unbind(-1)
    return Branched(token_ids, positions, visible, nodes, tokens, sequences, torch.tensor(lengths))


def sequence_logprobs(model: Any, batch: Branched, *, bare: Any = None) -> torch.Tensor:
    """Summed log-probability of what is asked of each sequence; shape (sequences,), float32.

    `bare` is the model inside a data-parallel wrapper, if there is one.
    """
    import torch

    bare = model if bare is None else bare
    dtype = bare.get_input_embeddings().weight.dtype
    mask = torch.zeros(batch.visible.shape, dtype=dtype, device=batch.visible.device)
    mask.masked_fill_(~batch.visible, torch.finfo(dtype).min)
    # Where sequences part, several tokens are asked of one distribution.
    places, place = batch.nodes.unique(return_inverse=True)
    with head_only_at(bare, places):
        logits = model(
            input_ids=batch.token_ids,
            attention_mask=mask.unsqueeze(1),
            position_ids=batch.positions,
            use_cache=False,
        ).logits
    picked = torch.log_softmax(logits.float(), dim=-1)[place, batch.tokens]
    return picked.new_zeros(len(batch.lengths)).index_add(0, batch.sequences, picked)
