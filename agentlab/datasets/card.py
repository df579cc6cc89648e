"""The card of a data set: a README.md whose head tells `datasets` what lies where, and whose text tells a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from agentlab.datasets.schemas import CONFIGS, EPISODES, PREFERENCES, SFT, SFT_TOKENS
from agentlab.terminal import one_line
from memory.records import now
from memory.store import EpisodeFilter

CARD = "README.md"

_ABOUT = {
    EPISODES: "every episode as it was played, won or not",
    SFT: "the best wins of train tasks as `messages`, without what memory said in their prompts",
    SFT_TOKENS: "the best wins of train tasks as the tokens that the model saw and chose",
    PREFERENCES: "a better and a worse answer to one prompt: the step at which a won and a lost attempt part",
}

_TRAIN = {
    SFT: """\
```python
SFTTrainer(MODEL, train_dataset=load_dataset(".", "sft", split="train"),
           args=SFTConfig(assistant_only_loss=True, max_length=None))
```

The loss is on the agent's messages alone where the chat template of the model marks them (`{% generation %}`), or is
one that TRL knows how to mark; TRL refuses others.
""",
    SFT_TOKENS: """\
```python
SFTTrainer(MODEL, train_dataset=load_dataset(".", "sft_tokens", split="train"),
           args=SFTConfig(max_length=None))
```

For the model that played (columns `engine`, `adapter`), or one with its tokenizer. `assistant_masks` is 1 where the
agent chose the token and the action was admissible; TRL puts the loss there. Where `with_memory` is true, what memory
said stands in the prompt: leave these out to teach the bare prompt.
""",
    PREFERENCES: """\
```python
DPOTrainer(MODEL, train_dataset=load_dataset(".", "preferences", split="train"),
           args=DPOConfig(max_length=None))
```

An answer is one message, since TRL takes all of an answer for the agent's own. `weight` is the difference of the
scores in the end, `shared` the number of steps before.
""",
}

_COLUMNS = {
    "`id`, `task`, `env`, `split`, `seed`, `trial`": "which play of which game; `task` is `env:split:seed`",
    "`run`, `arm`, `engine`, `adapter`, `temperature`": "who played",
    "`prompt`, `goal`, `hints`": "how the model read the game; its task; what memory said at the beginning",
    "`status`, `won`, `score`, `reward`": "how it ended; the score in the end, the sum of all rewards",
    "`messages`": "all of it as a chat, with what memory said",
    "`steps`: `observation`, `note`, `commands`": "what was seen; what memory said beside it; what was admissible",
    "`steps`: `thought`, `action`, `invalid`": "what was thought and done; whether that was not admissible",
    "`steps`: `result`, `reward`, `score`": "what came of it; the score so far",
    "`steps`: `logprob`, `scores`, `bonus`": "log-probability of the action; of each command; what memory added",
    "`steps`: `token_ids`, `logprobs`": "what the agent wrote, where it wrote, with log-probabilities",
    "`token_ids`, `own_mask`": "the tokens that the model saw and chose; 1 for its own. Empty without a model's",
    "`usage`, `started_at`, `seconds`": "what it took, and when",
    "`error`, `error_kind`": "why it errored, where it did",
    "`minimised_from`, `relabelled_from`": "the episode that this one was made of, where it was not played so",
    "`recalled`": "the reflections that served it, with their text as it is now",
    "`trained`": "the adapters that learned from it, with their rounds",
}

_REDACTED = """\
Every text went through a function of the exporter's: goals, hints, observations, commands, thoughts, notes, errors and
reflections. Where that changed an episode its token ids were left out, which would still hold the text. Names (of
environments, runs, arms and models) are as they were.
"""


def card(rows: Mapping[str, Mapping[str, int]], wanted: EpisodeFilter, *, redacted: bool, version: str) -> str:
    """The card of a data set whose configs have so many rows in each split."""
    return "\n".join(
        [
            *_head(rows),
            "",
            "# Episodes of AgentLab",
            "",
            f"What an agent did in text games, exported by AgentLab {version} on {now()[:10]}{_chosen(wanted)}.",
            "",
            *([_REDACTED] if redacted else []),
            *_table(rows),
            "",
            "## Train with TRL",
            "",
            "Written for TRL 1.16, in this folder, with `pip install trl datasets`:",
            "",
            "```python",
            "from datasets import load_dataset",
            "from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer",
            "```",
            "",
            *(f"### {config}\n\n{how}" for config, how in _TRAIN.items() if config in rows),
            "## Columns of `episodes`",
            "",
            "| column | |",
            "|---|---|",
            *(f"| {names} | {meaning} |" for names, meaning in _COLUMNS.items()),
            "",
        ]
    )


def _head(rows: Mapping[str, Mapping[str, int]]) -> list[str]:
    lines = ["---", "pretty_name: Episodes of AgentLab", "task_categories:", "- text-generation", "tags:"]
    lines += ["- agents", "- text-games", "- trl", "configs:"]
    for config in CONFIGS:
        if config in rows:
            lines += [f"- config_name: {config}", "  data_files:"]
            for split in rows[config]:
                lines += [f"  - split: {split}", f"    path: {config}/{split}.parquet"]
    return [*lines, "---"]


def _table(rows: Mapping[str, Mapping[str, int]]) -> list[str]:
    lines = ["| config | rows | what it holds |", "|---|---|---|"]
    for config, splits in rows.items():
        counts = ", ".join(f"{split} {count:,}" for split, count in splits.items())
        lines.append(f"| `{config}` | {counts} | {_ABOUT[config]} |")
    return lines


def _chosen(wanted: EpisodeFilter) -> str:
    """What the episodes were chosen by."""
    given = [(field.name, getattr(wanted, field.name)) for field in fields(wanted)]
    said = [f"{name} `{one_line(str(value), 200).replace('`', '')}`" for name, value in given if value is not None]
    return f", of those with {', '.join(said)}" if said else ""
