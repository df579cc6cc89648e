"""Presets of a round: the settings of a published method, as far as this agent can follow it."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # The default but for one success a task: a binary filter, restart from the base (Singh et al. 2024).
    "rest_em": {"selection": {"cap_per_task": 1}},
    # Trees of what was tried; a failure spliced with the better trajectory that it parted from (Yuan et al. 2025), with
    # a revision thought between them where the model thinks before it acts.
    "agent_r": {
        "collect": ["mcts", "model"],
        "revise": True,
        "selection": {"cap_per_task": 3},
        "search": {
            "budget": {"steps": 400},
            "settings": {
                "rule": "uct", "iterations": 8, "wins": 8, "widening": 0.5, "advice": False, "transpositions": False,
            },
        },
    },
    # What the model wins with memory in its prompt, taught for the prompt without it (Snell et al. 2022).
    "context_distillation": {
        "collect": "model",
        "memory": "all",
        "learn_from": "recalled",
        "model_trials": 2,
        "temperature": 0.5,
        "selection": {"cap_per_task": 1},
    },
    # Single steps that led on against steps from which nothing won any more (Rafailov et al. 2023, by step).
    "dpo": {
        "collect": ["mcts", "model"],
        "search": {"budget": {"steps": 400}, "settings": {"wins": 4}},
        "preferences": {"per_task": 4, "visits": 2},
        "training": {"objective": "step_dpo", "learning_rate": 1e-4, "beta": 0.1, "nll_weight": 1.0},
    },
    # Episodes of one game that are compared with each other, played while training (Shao et al. 2024); needs TRL.
    "grpo": {"training": {"objective": "grpo", "learning_rate": 1e-4, "beta": 0.04}},
}  # fmt: skip
