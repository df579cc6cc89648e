"""A lab's settings, in `lab.toml`: what a person may change with an editor."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from agentlab.engines import hub
from agentlab.engines.provider import KEYS, PATIENCE, Price
from agentlab.errors import BadConfig, NotALab, UnknownReflector
from agentlab.workspace.commented import commented

FORMAT = 1
RENAMED = {"withhold": "hold_out", "withhold_cost": "hold_out_cost"}
"""Settings by the names that they had before."""
Model = TypeVar("Model", bound=BaseModel)


def _reflector(name: str) -> str:
    from agentlab.reflectors.registry import validate

    try:
        return validate(name)
    except UnknownReflector as error:
        raise ValueError(str(error)) from None


def _tool(name: str) -> str:
    from environments.errors import BadParameter
    from environments.tools import tool

    try:
        tool(name)
    except BadParameter as error:
        raise ValueError(f"{error}, or bring in one's own with --import") from None
    return name


class ChatConfig(BaseModel):
    """What is to be known of a model behind an API.

    Attributes:
        price_in: US dollars for a million tokens that it reads; 0: not known, so that no cost is counted.
        price_out: the same for those that it writes.
        patience: seconds in which an answer must have come, all tries together; then the episode errors.
    """

    model_config = ConfigDict(extra="forbid")

    price_in: float = Field(0.0, ge=0)
    price_out: float = Field(0.0, ge=0)
    patience: float = Field(PATIENCE, gt=0)

    @property
    def price(self) -> Price:
        """What tokens cost."""
        return Price(self.price_in, self.price_out)


class LabConfig(BaseModel):
    """Settings of a lab.

    Attributes:
        format: version of the folder's layout.
        model: base model: a folder, a name of `agentlab models`, or a Hugging Face id.
        engine: where the model runs: in this process (`transformers`), on a `vllm` server, or behind an API (`chat`).
        server: the URL of a server that runs already; empty: `vllm` starts one of its own.
        actor: how the model plays: `rank` takes the likeliest of the admissible commands, `write` has it write; where
            it is not said, a model that stands behind an API, thinks or votes writes, and any other ranks.
        think: tokens of a thought before each command that is written; 0 writes none.
        samples: turns that are written for one step, of which the most frequent command is taken.
        prompt: how the model reads a game: as a `transcript`, as a `chat` in its own template, or by `auto` as a chat
            where it writes and has a template.
        embedder: the same for the text embedder; `hashing` needs no model.
        dtype: `auto`, `bfloat16` or `float32`.
        threads: processor threads of one process; 0 takes all that there are.
        context: tokens of a conversation, at most.
        concurrency: tasks in flight at once; None: 16 on a graphics card, on a vLLM server and where they are gathered,
            4 behind an API, else 2.
        gather: read what the tasks in flight ask for in one pass, of a model in this process: 2.5 times as much play on
            a processor that computes in bfloat16. The last bits of a score then depend on who plays beside, so that a
            resumed run no longer equals an unbroken one to the byte. None: on a graphics card.
        recency: weight of recency when an agent recalls. It depends on the clock, so anything but 0 gives up that a
            resumed run equals an unbroken one.
        recall_text: reflections whose text enters the prompt of an arm with memory. Small models do not profit.
        recall_exemplars: recalled successes that enter the prompt of the base with memory.
        namespace: whose memory this lab plays with; what belongs to another namespace is as if it were not there.
        tools: tools with which every environment is played whose id names none (`?tools=none` plays without), such as
            `["calculator", "notes"]`; the ids in the records name them.
        reflectors: who reflects on an episode: names of `agentlab.reflectors.registry`; all but `grounded` and
            `exemplar` are for models that can write.
        critic: a second model that criticises and judges where a reflector has a part for one (`critique`, `debate`):
            named as `model` is; empty: the lab's own model plays all parts.
        credit: measure what each reflection changes, and recall by it, and what each tool of a game is worth; for that,
            some are held out on train games.
        hold_out: the probability with which a recalled reflection, or one tool of a game, is held out; 0 measures
            nothing further.
        hold_out_cost: the share of episodes that holding out may cost, by estimate, for reflections and for tools each;
            no more is held out.
        probation: the share of train games that may recall what came from outside (imports, clients of the memory
            server) before it has shown that it helps; 0 recalls none of it until a person vouches for it.
        source_quota: reflections that one source other than the agent itself may bring in within 24 hours.
        consolidate_every: episodes after which a run on the train fold ends with a consolidation; 0 leaves that to
            `agentlab memory consolidate`.
        seed: of all chance in playing; a round has its own (`RoundConfig.seed`).
        chat: of a model behind an API (`engine = "chat"`), what it costs and how long it is waited for.
    """

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    model: str = "SmolLM2-135M-Instruct"
    engine: Literal["transformers", "vllm", "chat"] = "transformers"
    server: str = ""
    actor: Literal["rank", "write"] = "rank"
    think: int = Field(0, ge=0, le=4096)
    samples: int = Field(1, ge=1, le=64)
    prompt: Literal["auto", "transcript", "chat"] = "auto"
    embedder: str = "all-MiniLM-L6-v2"
    dtype: str = Field("auto", pattern="^(auto|bfloat16|float32)$")
    threads: int = Field(0, ge=0)
    context: int = Field(2048, ge=256)
    concurrency: int | None = Field(None, ge=1, le=64)
    gather: bool | None = None
    recency: float = Field(0.0, ge=0)
    recall_text: int = Field(0, ge=0, le=10)
    recall_exemplars: int = Field(1, ge=0, le=5)
    namespace: str = Field("", max_length=100)
    tools: list[Annotated[str, AfterValidator(_tool)]] = []
    reflectors: list[Annotated[str, AfterValidator(_reflector)]] = ["grounded", "exemplar"]
    critic: str = ""
    credit: bool = True
    hold_out: float = Field(0.1, ge=0, le=0.5)
    hold_out_cost: float = Field(0.02, ge=0, le=1)
    probation: float = Field(0.2, ge=0, lt=0.5)
    source_quota: int = Field(1000, ge=0)
    consolidate_every: int = Field(0, ge=0)
    seed: int = 0
    chat: ChatConfig = ChatConfig()

    @model_validator(mode="after")
    def _writes(self) -> Self:
        """A model behind an API can only write, and only who writes thinks or votes: so that is what is meant by it."""
        writes = self.engine == "chat" or self.think > 0 or self.samples > 1
        if writes and "actor" not in self.model_fields_set:
            self.actor = "write"
        return self


def check(config: LabConfig) -> None:
    """Raise BadConfig where the model, the engine and the actor do not go together, or the server's URL is none."""
    if config.server and (wrong := _flaw(config.server)):
        raise BadConfig(f"The server's URL {wrong}; give one such as http://127.0.0.1:8000.")
    if config.engine == "chat" and not hub.behind_api(config.model):
        raise BadConfig(
            f"--engine chat plays with a model behind an API, and {config.model!r} names none; give --model "
            "PROVIDER:MODEL, such as openai:NAME, anthropic:NAME or ollama:NAME."
        )
    if config.engine == "chat" and config.actor == "rank":
        raise BadConfig(
            "A model behind an API cannot rank commands, since it gives no log-probabilities of them; use `--actor "
            'write`, or `actor = "write"` in lab.toml.'
        )
    if config.engine != "chat" and hub.behind_api(config.model):
        raise BadConfig(f"{config.model!r} is a model behind an API; play with --engine chat.")


def _flaw(url: str) -> str:
    """What is wrong with a server's URL, without repeating it: there may be a secret in it."""
    import httpx

    try:
        parts, _ = urlsplit(url), httpx.URL(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        return "cannot be read"
    if "@" in parts.netloc or parts.query or parts.fragment:
        return (
            "is kept in lab.toml, and has a user, a key or a query in it; put a key into VLLM_API_KEY or "
            f"{KEYS['openai']}"
        )
    return "" if named else "names no server that can be asked by http or https"


def read_config(path: Path, notify: Callable[[str], None] = lambda message: None) -> LabConfig:
    """Read `lab.toml`; `notify` is told of settings under the names that they had before.

    Raises NotALab (newer format) or BadConfig (a value that makes no sense).
    """
    raw = read_toml(path)
    old = [name for name in RENAMED if name in raw]
    for name in old:
        raw.setdefault(RENAMED[name], raw.pop(name))
    if old:
        known = ", ".join(f"`{name}` is `{RENAMED[name]}`" for name in old)
        notify(f"{path.name}: {known} now; the old names work in this version only.")
    if isinstance(raw.get("format"), int) and raw["format"] > FORMAT:
        raise NotALab(
            f"{path.parent} was made by a newer AgentLab (format {raw['format']}, this one knows {FORMAT}); update it."
        )
    return parse(LabConfig, raw, path)


def write_config(path: Path, config: LabConfig) -> None:
    """Write `lab.toml`, each setting explained, beside and renamed."""
    text = commented(config, about="An AgentLab lab. Change with care; `agentlab doctor` checks it.")
    scratch = path.with_suffix(".tmp")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def rename_settings(path: Path) -> None:
    """Give the settings in `lab.toml` the names that they have now; all else in it stays as it is."""
    before = text = path.read_text(encoding="utf-8", errors="surrogateescape")
    for old, new in RENAMED.items():
        text = re.sub(rf"(?m)^{old}(?=\s*=)", new, text)
    if text != before:
        scratch = path.with_suffix(".tmp")
        scratch.write_text(text, encoding="utf-8", errors="surrogateescape")
        scratch.replace(path)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; BadConfig if it is not there or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadConfig(f"There is no file {path}; check the path.") from None
    except IsADirectoryError:
        raise BadConfig(f"{path} is a folder; give the path of a TOML file.") from None
    except ValueError as error:  # tomllib's own, no UTF-8, a number of too many digits
        raise BadConfig(f"{path} is not valid TOML ({error}); correct it.") from None
    except RecursionError:
        raise BadConfig(f"{path} is not valid TOML (it is nested too deeply); correct it.") from None


def parse(model: type[Model], raw: dict[str, Any], path: Path) -> Model:
    """Validate; the first complaint becomes one line of BadConfig."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        if first["type"] == "extra_forbidden":
            raise BadConfig(f"{path}: there is no setting '{where}'; take it out, or correct its name.") from None
        raise BadConfig(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}; correct it.") from None


def merged(*layers: dict[str, Any]) -> dict[str, Any]:
    """Settings in layers: later ones win, and tables inside are merged, not replaced."""
    found: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(found.get(key), dict)
            found[key] = merged(found[key], value) if both else value
    return found
