"""One's own actor: a class with a name and `act` decides; the episode, its memory and its records stay as they are."""

from agentlab import Arm, Decision, Lab, LabConfig, RecallConfig, View
from agentlab.engines.base import Engine
from agentlab.testing import check_actor

READING = ("read", "examine")


class ReadsFirst:
    """Reads whatever can be read, once in each place, and then lets the model choose what to do about it."""

    name = "reads first"

    def act(self, view: View) -> Decision:
        commands = list(view.commands or ["look"])
        done = {step.action for step in view.steps if step.state == view.state}
        unread = [one for one in commands if one.startswith(READING) and one not in done]
        if unread:
            return Decision(unread[0], commands)
        scores, priors = view.score(commands), view.action_priors(commands)
        best = view.policy.choose(scores.logprobs, priors, view.trial, view.rng)
        return Decision(commands[best], commands, scores.logprobs, priors, usage=scores.usage)


def main(folder: str = "labs/reads-first", config: LabConfig | None = None, engine: Engine | None = None) -> None:
    print(check_actor(ReadsFirst()))
    mine = Arm("reads first", actor=ReadsFirst())
    with_memory = Arm("reads first + memory", actor=ReadsFirst(), recall=RecallConfig())
    with Lab.open(folder, create=True, config=config, engine=engine) as lab:
        print(lab.evaluate("toy/doors", seeds=range(20), arms=["base", mine, with_memory]))


if __name__ == "__main__":
    main()
