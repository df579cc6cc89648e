"""What a memory of earlier chats is worth: questions about what was said in them, by a lab's model with and without it.

    python benchmarks/chats.py [--model M] [--tokens N]

Twenty chats each say one thing; each is then asked about in a new one, once as the client who had said all of them and
once as one who had said nothing. An answer is right if it has the word in it. Beside that stand twelve questions that
have nothing to do with any of it: whether something is recalled for them, and whether the answer is another one. And
how many of the statements are noted, of the questions none should be. `--near` asks no model: for how many questions
something would be recalled if another cosine were near enough.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from machine import describe

SAID = [
    ("My name is Anna.", "What is my name?", "anna"),
    ("I live in Lisbon.", "Which city do I live in?", "lisbon"),
    ("My daughter is allergic to peanuts.", "What is my daughter allergic to?", "peanut"),
    ("I work as a nurse.", "What is my job?", "nurse"),
    ("I have two dogs.", "How many dogs do I have?", "two|2"),
    ("My car is a Toyota.", "Which make is my car?", "toyota"),
    ("I play the cello.", "Which instrument do I play?", "cello"),
    ("I am vegetarian.", "What kind of diet do I have?", "vegetarian"),
    ("My thesis is about coral reefs.", "What is my thesis about?", "coral"),
    ("I use Arch Linux.", "Which operating system do I use?", "arch"),
    ("I hate coriander.", "Which herb do I hate?", "coriander"),
    ("My favourite colour is green.", "What is my favourite colour?", "green"),
    ("I was born in 1987.", "In which year was I born?", "1987"),
    ("My sister lives in Oslo.", "Where does my sister live?", "oslo"),
    ("I speak Portuguese.", "Which language do I speak?", "portuguese"),
    ("My dog is called Rex.", "What is my dog called?", "rex"),
    ("I grew up in Bern.", "Where did I grow up?", "bern"),
    ("I study chemistry.", "Which subject do I study?", "chemistry"),
    ("My exam is on Friday.", "On which day is my exam?", "friday"),
    ("My laptop is a ThinkPad.", "Which laptop do I have?", "thinkpad"),
]
OTHER = [
    "What is 12 times 14?",
    "Who wrote Hamlet?",
    "Explain how a transistor works.",
    "Write a haiku about autumn.",
    "What is the capital of Mongolia?",
    "Fix the grammar: he go to school.",
    "How do vaccines work?",
    "Summarise the French revolution in two sentences.",
    "Tell me a joke.",
    "Convert 30 degrees Celsius to Fahrenheit.",
    "Hello!",
    "Thanks!",
]


class Arm(NamedTuple):
    """The answers of one arm, and how many reflections were recalled for each."""

    answers: list[str]
    recalled: list[int]


def main() -> None:
    """Chat, ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--tokens", type=int, default=24, help="of an answer, at most")
    parser.add_argument("--near", action="store_true", help="only compare bounds of the cosine")
    given = parser.parse_args()
    if given.near:
        near()
        return

    from agentlab.lab import Lab
    from agentlab.serving.chats import Chats
    from agentlab.serving.clients import Client
    from agentlab.serving.wire import Asked
    from agentlab.workspace.config import LabConfig
    from trainers.gate import wilson

    def asked(text: str, tokens: int) -> Asked:
        return Asked.model_validate({"messages": [{"role": "user", "content": text}], "max_tokens": tokens})

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "lab"
        with Lab.open(folder, create=True, config=LabConfig(model=given.model), progress=False) as made:
            _ = made.database
        with Lab.open(folder, write=False, progress=False) as lab:
            chats = Chats(lab, most=given.tokens)
            knows, new = Client("chat:knows", "chat/knows"), Client("chat:new", "chat/new")
            noted = [len(chats.answer(knows, asked(f"{text} Hello.", 1), lambda *_: True).noted) for text, _, _ in SAID]

            def arm(client: Client, questions: list[str]) -> Arm:
                found = [chats.answer(client, asked(one, given.tokens), lambda *_: True) for one in questions]
                none = sum(len(one.noted) for one in found)
                assert none == 0, f"{none} questions were noted"
                return Arm([one.text for one in found], [len(one.recalled) for one in found])

            about = [question for _, question, _ in SAID]
            with_memory, without = arm(knows, about), arm(new, about)
            other, plain = arm(knows, OTHER), arm(new, OTHER)
    print(f"{describe(lab.threads)}; {given.model}, at most {given.tokens} tokens of an answer\n")
    print(f"noted: {sum(noted)} of {len(SAID)} statements, 0 of {len(SAID) + len(OTHER)} questions (asked twice)\n")
    print("| questions | memory | right [95 %] | recalled for | reflections each |")
    print("|---|---|---|---|---|")
    for name, one in (("yes", with_memory), ("no", without)):
        right = sum(
            bool(re.search(rf"\b(?:{word})", answer.lower()))
            for (_, _, word), answer in zip(SAID, one.answers, strict=True)
        )
        low, high = wilson(right, len(SAID))
        shown = f"{right / len(SAID):.2f} ({right}/{len(SAID)}) [{low:.2f}, {high:.2f}]"
        print(f"| about what was said | {name} | {shown} | {_shares(one)} |")
    changed = sum(one != two for one, two in zip(other.answers, plain.answers, strict=True))
    print(f"| about something else | yes | – ({changed} of {len(OTHER)} answers are other ones) | {_shares(other)} |")
    print(f"| about something else | no | – | {_shares(plain)} |")


def near() -> None:
    """For how many questions something is near enough, by the bound of the cosine."""
    from agentlab.engines import hub
    from agentlab.workspace.config import LabConfig
    from memory import SentenceTransformerEmbedder

    name = LabConfig().embedder
    embed = SentenceTransformerEmbedder(hub.resolve(name), name).embed
    notes = embed([f"The user said: “{text}”" for text, _, _ in SAID])
    about, other = embed([question for _, question, _ in SAID]) @ notes.T, embed(OTHER) @ notes.T
    print("| cosine from | about what was said: the right one | all that are near, each | about something else: any |")
    print("|---|---|---|---|")
    for bound in (0.2, 0.25, 0.3, 0.35):
        right, each = (about.diagonal() >= bound).sum(), (about >= bound).sum(1).mean()
        print(f"| {bound} | {right} of {len(SAID)} | {each:.1f} | {(other >= bound).any(1).sum()} of {len(OTHER)} |")


def _shares(arm: Arm) -> str:
    many = len(arm.recalled)
    served = sum(count > 0 for count in arm.recalled)
    return f"{served} of {many} | {sum(arm.recalled) / many:.1f}"


if __name__ == "__main__":
    main()
