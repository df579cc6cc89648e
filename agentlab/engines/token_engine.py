"""What engines with a tokenizer have in common: the folder of their model, and how that reads a game."""

from __future__ import annotations

from pathlib import Path

from agentlab.engines import model_folder
from agentlab.engines.conversation import PromptSetting
from agentlab.errors import UnsupportedModel
from memory import prompts
from trainers.data import Tokenizer

REMEMBERED = 100_000
"""Commands whose tokens are kept; where an environment has more, all are cut anew."""


class TokenEngine:
    """Reads by the tokenizer in `folder`, up to `context` tokens (default: the model's own window, at most 2,048).

    `prompt` is how it reads a game: as a `transcript`, as a `chat` in its own template, or by `auto` as a chat where
    whoever plays asks for one. Raises BadModel or UnsupportedModel if the folder is not whole, or the model cannot play
    as it is set to.
    """

    def __init__(
        self, folder: Path, *, name: str = "", context: int | None = None, prompt: PromptSetting = "auto"
    ) -> None:
        self.folder = Path(folder)
        self.name = name or self.folder.name
        config, self.tokenizer = model_folder.check(self.folder)
        self.tokenize = Tokenizer.of(self.tokenizer)
        self.prompt = prompt
        if prompt == "chat" and not self.tokenize.has_chat:
            raise UnsupportedModel(f"{self.name} cannot play as a chat: {self.tokenize.refusal}.")
        self.longest = int(getattr(config, "max_position_embeddings", None) or 2048)
        """Tokens that the model can read."""
        self.context = min(context or 2048, self.longest)
        self.ends = model_folder.ends(self.folder, config, self.tokenizer)
        """The tokens that end a text."""
        self._tokens: dict[str, list[int]] = {}

    def command_tokens(self, command: str) -> list[int]:
        """The tokens of a command as an action: its words, then its line end as a segment of its own."""
        ids = self._tokens.get(command)
        if ids is None:
            ids = [*self.tokenize(prompts.action(command)), *self.tokenize(prompts.LINE_END)]
            if len(self._tokens) >= REMEMBERED:
                self._tokens.clear()
            self._tokens[command] = ids
        return ids
