"""One's own reflector: it reads a finished episode and writes down text for people and advice for the scorer."""

from agentlab import Episode, Lab, LabConfig, Reflection, reflection_of
from agentlab.engines.base import Engine
from agentlab.testing import check_reflector
from memory import Advice
from memory.store import Filter


class Idling:
    """Notes which commands changed nothing, and advises against them in those states."""

    name = "idling"

    def reflect(self, episode: Episode) -> list[Reflection]:
        idle = [step for step in episode.steps if step.state == step.next_state and step.reward == 0]
        if not idle or episode.status == "errored":
            return []
        return [
            reflection_of(
                episode,
                kind=self.name,
                text="It changes nothing to: " + ", ".join(sorted({step.action for step in idle})) + ".",
                steps=[step.index for step in idle],
                advice=[Advice(state=step.state, action=step.action, visits=1, no_effect=1) for step in idle],
            )
        ]


def main(folder: str = "labs/idling", config: LabConfig | None = None, engine: Engine | None = None) -> None:
    print(check_reflector(Idling()))
    with Lab.open(folder, create=True, config=config, engine=engine) as lab:
        lab.run("toy/doors", seeds=range(5), trials=2, reflectors=[Idling()], name="idling")
        for hit in lab.memory.search("does it help to look?", wanted=Filter(kinds=["idling"]), k=3):
            print(f"{hit.score:.2f}  {hit.reflection.text}  (seen in {hit.reflection.evidence[0].episode})")


if __name__ == "__main__":
    main()
