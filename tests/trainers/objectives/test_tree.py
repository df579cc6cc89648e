from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.objectives.tree import TokenTree, parts

TOKENS = st.lists(st.integers(0, 6), min_size=1, max_size=5)
CANDIDATES = st.lists(TOKENS, min_size=1, max_size=12)


def path_to(tree: TokenTree, node: int) -> list[int]:
    """The tokens from the root to a node."""
    tokens: list[int] = []
    while node >= 0:
        tokens.insert(0, tree.tokens[node])
        node = tree.parents[node]
    return tokens


@given(CANDIDATES)
def test_every_candidate_is_read_off_the_nodes_of_its_own_prefixes(candidates: list[list[int]]) -> None:
    tree = TokenTree.of(candidates)
    for ids, edges in zip(candidates, tree.edges, strict=True):
        assert [token for _, token in edges] == ids
        assert [path_to(tree, node) for node, _ in edges] == [ids[:at] for at in range(len(ids))]


@given(CANDIDATES)
def test_only_tokens_that_something_follows_are_run_and_each_prefix_once(candidates: list[list[int]]) -> None:
    tree = TokenTree.of(candidates)
    prefixes = {tuple(ids[:cut]) for ids in candidates for cut in range(1, len(ids))}
    assert sorted(tuple(path_to(tree, node)) for node in range(len(tree))) == sorted(prefixes)


@given(CANDIDATES)
def test_a_node_sees_its_ancestors_and_itself_and_nothing_else(candidates: list[list[int]]) -> None:
    tree = TokenTree.of(candidates)
    seen = tree.visible()
    for node in range(len(tree)):
        line, at = set(), node
        while at >= 0:
            line.add(at)
            at = tree.parents[at]
        assert set(seen[node].nonzero().flatten().tolist()) == line
        assert tree.depths[node] == len(line) - 1


@given(CANDIDATES)
def test_sums_add_up_the_distributions_along_each_path(candidates: list[list[int]]) -> None:
    tree = TokenTree.of(candidates)
    table = torch.arange((len(tree) + 1) * 7, dtype=torch.float32).reshape(-1, 7)
    expected = [sum(float(table[node + 1, token]) for node, token in edges) for edges in tree.edges]
    assert tree.sums(table) == expected


def test_single_tokens_need_no_node_at_all() -> None:
    tree = TokenTree.of([[1], [2], [1]])
    assert len(tree) == 0
    assert tree.visible().shape == (0, 0)
    assert tree.sums(torch.tensor([[0.0, -1.0, -2.0]])) == [-1.0, -2.0, -1.0]


def test_sequences_grow_out_of_one_that_is_there_and_share_what_it_goes_on_with() -> None:
    tree = TokenTree()
    trunk = tree.follow([1, 2, 3])
    tree.add([2, 3, 4], after=trunk[0])
    tree.add([2, 9, 9], after=trunk[0])
    assert (tree.tokens, tree.parents, tree.depths) == ([1, 2, 3, 9], [-1, 0, 1, 1], [0, 1, 2, 2])
    assert tree.edges == [[(0, 2), (1, 3), (2, 4)], [(0, 2), (1, 9), (3, 9)]]


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), max_size=40), st.integers(1, 12))
def test_parts_hold_every_sequence_once_and_few_nodes_each(candidates: list[list[int]], most: int) -> None:
    made = parts(candidates, most)
    assert sorted(at for part in made for at in part) == list(range(len(candidates)))
    for part in made:
        assert len(TokenTree.of([candidates[at] for at in part])) <= most or len(part) == 1


def test_few_sequences_stay_one_part() -> None:
    assert parts([[1, 2, 3], [1, 2], [9]], 2) == [[1, 0, 2]] and parts([], 5) == []
