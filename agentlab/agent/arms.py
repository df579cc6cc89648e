"""An arm: one way to play, compared against others on the same tasks and seeds."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from agentlab.agent import society as societies
from agentlab.agent.actors import Actor, Prompted, RandomActor, RankingActor
from agentlab.agent.playing import actor_of
from agentlab.agent.policy import Policy
from agentlab.agent.router_config import RouterConfig, parse
from agentlab.agent.society import Society
from agentlab.engines.experimental import vectors
from agentlab.errors import AgentLabError
from agentlab.terminal import one_line
from memory.prompts import Prompting
from memory.records import content_id

if TYPE_CHECKING:
    from agentlab.workspace.workspace import Workspace


@dataclass(frozen=True)
class RecallConfig:
    """What an episode recalls.

    Attributes:
        text: reflections whose text enters the prompt (small models do not profit; models that can read do).
        imported: notes that belong to no environment, such as those that other tools exported, are among these.
        exemplars: minimised successes of similar games that enter the prompt.
        advice: advice on actions in states enters the scores: within the episode, from earlier trials of the task,
            and from other tasks.
        similarity: cosine that a state of another task must reach before its advice counts.
        transfer: what advice from another task is multiplied by, times its similarity.
        wording: advice on a command that is not admissible here bears on the commands most like it in wording.
        credit: what was measured counts: which items helped (`memory.credit`), and how strongly advice should speak
            (`agentlab.agent.strength`). On train games it is measured further, for which some items are held out by
            lot.
        budget: tokens of the memory block, at most; it stays in the window for the whole episode.
    """

    text: int = 0
    imported: bool = True
    exemplars: int = 0
    advice: bool = True
    similarity: float = 0.9
    transfer: float = 0.5
    wording: bool = True
    credit: bool = True
    budget: int = 300


@dataclass(frozen=True)
class Arm:
    """One way to play.

    Attributes:
        name: as it stands in the tables.
        engine: `model` (the lab's), or under what name that is recorded which plays without a model, such as `random`.
        adapter: id of a LoRA adapter, or a steering vector's with its strength; None plays the base.
        router: composes the adapter of each episode from several skills, or is a society, whose agents play by turns;
            there is no other `adapter` then.
        recall: what is recalled; None plays without any memory, also within the episode. Its later trials are then
            the plain Retry arm.
        policy: how commands are chosen.
        actor: who decides (`agentlab.agent.actors`); None ranks the commands, or plays at random without a model.
    """

    name: str
    engine: str = "model"
    adapter: str | None = None
    recall: RecallConfig | None = None
    policy: Policy = field(default_factory=Policy)
    router: RouterConfig | Society | None = None
    actor: Actor | None = None

    @property
    def identity(self) -> str:
        """Depends on everything that makes it play as it does, and not on its name."""
        routed = () if self.router is None else (self.router,)
        mine = () if self.actor is None else (self.actor.name, described(self.actor))
        return content_id("arm", self.engine, self.adapter, self.recall, self.policy, *routed, *mine)

    @property
    def player(self) -> Actor:
        """Who decides."""
        return self.actor or (RankingActor() if self.engine == "model" else RandomActor())

    @property
    def prompting(self) -> Prompting | None:
        """How who decides wants the model to read an episode; None where it ranks."""
        return self.player.prompting if isinstance(self.player, Prompted) else None

    @property
    def weights(self) -> str | None:
        """What is laid on the base: an adapter's id, or the name of a router; None for nothing."""
        return self.adapter if self.router is None else self.router.name

    def with_(self, **changes: Any) -> Arm:
        """A copy with some fields changed."""
        return replace(self, **changes)


def described(part: object) -> object:
    """What an actor is set to, as plain values: the fields of dataclasses, and the names of what has none."""
    if is_dataclass(part):
        return {one.name: described(getattr(part, one.name)) for one in fields(part)}
    if isinstance(part, list | tuple):
        return [described(one) for one in part]
    plain = part is None or isinstance(part, str | int | float)
    return part if plain else str(getattr(part, "name", type(part).__name__))


RANDOM = Arm("random", engine="random", policy=Policy(temperature=1.0, advice=False))
BASE = Arm("base")
BASE_MEMORY = Arm("base + memory", recall=RecallConfig(exemplars=1))


def adapter_arms(adapter: str, label: str = "adapter", *, text: int = 0) -> tuple[Arm, Arm]:
    """The adapter alone, and with memory.

    It recalls no exemplars, since it was trained on prompts without them, and no advice from other tasks, since it was
    trained on what that advice was drawn from.
    """
    return Arm(label, adapter=adapter), Arm(
        f"{label} + memory", adapter=adapter, recall=RecallConfig(text=text, transfer=0.0)
    )


def skills_arms(router: RouterConfig, *, text: int = 0) -> tuple[Arm, Arm]:
    """Skills composed by a router, alone and with the memory that an adapter has."""
    plain = Arm(router.name, router=router)
    return plain, plain.with_(name=f"{router.name} + memory", recall=RecallConfig(text=text, transfer=0.0))


def society_arm(society: Society, temperature: float = 1.0, name: str = "society") -> Arm:
    """A society: each of its agents plays a trial, at the temperature at which its attempts differ."""
    policy = Policy(temperature=temperature, retry_temperature=temperature, growth=0.0, advice=False)
    return Arm(name, router=society, policy=policy, recall=RecallConfig(advice=False, credit=False))


def default_arm(workspace: Workspace) -> str:
    """How a lab plays where nothing is named: with its memory, by the adapter that serves, if there is one."""
    return "adapter + memory" if workspace.serving() else "base + memory"


def default_arms(workspace: Workspace) -> list[str]:
    """What is measured where nothing is named."""
    adapter = ["adapter", "adapter + memory"] if workspace.serving() else []
    return ["random", "base", "base + memory", *adapter]


def arm_of(workspace: Workspace, name: str) -> Arm:
    """An arm by name: `random`, `base`, `adapter`, each of the last two also as `… + memory`; or an adapter's id.

    `adapter` is the one that serves. `skills(A,B)` composes adapters for each task (`agentlab.agent.router`). `society`
    is the last one that a round trained, `society(ROUND)` another (`agentlab.agent.society`). `steering-…@0.1` is the
    base, steered (experimental). It plays as the lab's settings say.
    """
    arm = _arm_of(workspace, name)
    return arm if arm.engine != "model" else arm.with_(actor=actor_of(workspace))


def _arm_of(workspace: Workspace, name: str) -> Arm:
    plain, with_memory = name.removesuffix("+ memory").removesuffix("+memory").strip(), "memory" in name
    text, exemplars = workspace.config.recall_text, workspace.config.recall_exemplars
    if plain == "random" and with_memory:
        raise AgentLabError("The arm 'random' has no memory; use 'random', or 'base + memory'.")
    if plain == "random":
        return RANDOM
    if plain == "base":
        recall = RecallConfig(text=text, exemplars=exemplars)
        return BASE_MEMORY.with_(recall=recall) if with_memory else BASE
    if plain.startswith("society"):
        if with_memory:
            raise AgentLabError(
                "A society has no memory but the attempts that its critics are shown; leave out '+ memory'."
            )
        found = societies.trained(workspace, of := societies.parse(plain))
        return society_arm(found.society, found.temperature, f"society({of})" if of else "society")
    if plain.startswith("skills"):
        return skills_arms(parse(plain, partial(_skill_named, workspace)), text=text)[int(with_memory)]
    if plain.startswith(vectors.PREFIX):
        steered = vectors.named(workspace.folder / "steering", plain).id
        return adapter_arms(steered, steered, text=text)[int(with_memory)]
    adapter = workspace.serving() if plain == "adapter" else _adapter_named(workspace, plain)
    if adapter is None:
        raise AgentLabError(
            "No adapter serves yet, so there is no arm 'adapter'; run `agentlab rounds` first, or use 'base'."
        )
    return adapter_arms(adapter, "adapter" if plain == "adapter" else adapter, text=text)[int(with_memory)]


def _adapter_named(workspace: Workspace, name: str) -> str:
    from trainers.errors import UnknownAdapter

    try:
        return workspace.adapters.get(name).id
    except UnknownAdapter as error:
        near = get_close_matches(name, ["random", "base", "adapter"], n=1)
        meant = f"did you mean {near[0]!r}?" if near else "an adapter's id is one too (`agentlab adapters list`)."
        raise UnknownAdapter(
            f"There is no arm '{one_line(name, 60)}': they are random, base and adapter, the last two also with "
            f"'+ memory', skills(A,B), and, experimental, society and steering-ID@STRENGTH; {meant}"
        ) from error


def _skill_named(workspace: Workspace, name: str) -> str:
    from trainers.errors import UnknownAdapter

    try:
        return workspace.adapters.get(name).id
    except UnknownAdapter as error:
        raise UnknownAdapter(f"skills composes adapters alone, and {one_line(str(error), 300)}.") from error
