"""One's own engine: a class with a name and `score` plays, remembers and is measured as any model is."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from agentlab import Lab, LabConfig, ScoreRequest, Scores
from agentlab.testing import check_engine


class Recency:
    """A cache language model (Kuhn and De Mori 1990): the words that were said last are the likeliest to come next."""

    name = "recency"

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        return [Scores(self.ranked(request.conversation.text, request.commands)) for request in requests]

    def ranked(self, transcript: str, commands: Sequence[str]) -> list[float]:
        said = Counter[str]()
        for age, word in enumerate(reversed(words(transcript)[-40:])):
            said[word] += 0.9**age  # type: ignore[assignment]
        return [mean([math.log((said[word] + 0.01) / 10.4) for word in words(command)]) for command in commands]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else -99.0


def main(folder: str = "labs/recency", config: LabConfig | None = None) -> None:
    print(check_engine(Recency()))
    with Lab.open(folder, create=True, config=config, engine=Recency()) as lab:
        lab.explore("toy/doors", seeds=range(40))  # at random, until each is won
        print(lab.evaluate("toy/doors", seeds=range(20), arms=["random", "base", "base + memory"]))


if __name__ == "__main__":
    main()
