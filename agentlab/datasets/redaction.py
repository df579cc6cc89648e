"""What a person's own function makes of every text before it leaves a lab."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from agentlab.errors import BadConfig, RedactionFailed
from agentlab.terminal import one_line
from memory.records import Episode, Step

Redact = Callable[[str], str]
"""Gives a text as it may be seen."""

SHOWN = 200
"""Characters of what an error says."""


def named(name: str) -> Redact:
    """The function that `module:function` names; its module may lie in the folder that one is in. Raises BadConfig."""
    module, _, function = name.partition(":")
    try:
        if not (function.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            raise ImportError("that is not of the form module:function")
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        found = getattr(importlib.import_module(module), function)
        if not callable(found):
            raise ImportError("that is no function")
    except (Exception, SystemExit) as error:
        why = one_line(str(error), SHOWN) or type(error).__name__
        raise BadConfig(
            f"--redact {one_line(name, 60)}: it cannot be used ({why}); give a function that maps a text to a "
            "text, such as my_rules:redact for redact in my_rules.py in this folder."
        ) from error
    return found


class Redaction:
    """Has every text go through `function`; without one all stays as it is."""

    def __init__(self, function: Redact | None) -> None:
        self.function = function
        self._known: dict[str, str] = {}

    def text(self, text: str, of: str) -> str:
        """A text as it may be seen; `of` names what has it. Raises RedactionFailed.

        An empty one holds nothing, and stays.
        """
        if self.function is None or not text:
            return text
        if text not in self._known:
            self._known[text] = self._asked(text, of)
        return self._known[text]

    def _asked(self, text: str, of: str) -> str:
        assert self.function is not None
        try:
            found = self.function(text)
        except (Exception, SystemExit) as error:
            said = one_line(f"{type(error).__name__}: {error}".rstrip(": "), SHOWN)
            raise RedactionFailed(
                f"The redaction raised an error of its own on a text of {of} ({said}); mend it. Nothing was written."
            ) from error
        if not isinstance(found, str) or any("\ud800" <= character <= "\udfff" for character in found):
            what = "half a character" if isinstance(found, str) else type(found).__name__
            raise RedactionFailed(
                f"The redaction gave {what} for a text of {of}, which is no text; mend it. Nothing was written."
            )
        return found

    def episode(self, episode: Episode) -> Episode:
        """An episode as it may be seen. One that is not as it was has no token ids: they would still say all.

        Those of the new text are not made up for it, since no model ever saw or chose them.
        """
        if self.function is None:
            return episode
        self._known.clear()
        of = f"episode {episode.id}"
        seen = {name: self.text(getattr(episode, name), of) for name in ("goal", "hints")}
        error = None if episode.error is None else self.text(episode.error, of)
        steps = [self._step(step, of) for step in episode.steps]
        redacted = episode.model_copy(update={**seen, "error": error, "steps": steps})
        if redacted == episode:
            return episode
        bare = [step.model_copy(update={"token_ids": [], "logprobs": []}) for step in steps]
        return redacted.model_copy(update={"steps": bare, "token_ids": [], "action_spans": []})

    def _step(self, step: Step, of: str) -> Step:
        names = ("observation", "state", "action", "result", "next_state", "note", "thought")
        seen = {name: self.text(getattr(step, name), of) for name in names}
        return step.model_copy(update={**seen, "admissible": [self.text(one, of) for one in step.admissible]})
