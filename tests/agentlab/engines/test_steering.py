"""Steering (experimental): the suffix score and its gradient; a base that plays with vectors added to its states."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from agentlab.engines.base import Adapter, Aside, ScoreRequest, TurnRequest
from agentlab.engines.experimental import steering, vectors
from agentlab.engines.experimental.steering import Asked, Question
from agentlab.engines.experimental.vectors import Card, SteeringConfig
from agentlab.engines.scripted import ScriptedEngine
from agentlab.engines.transformers import TransformersEngine
from agentlab.errors import AgentLabError, BadConfig, BadSteering, UnsupportedModel
from memory.prompts import Prompting, rendering
from trainers.data import Tokenizer

COMMANDS = ["look", "open black door", "open blue door", "open blue", "read note", "take coin", "jump ✓"]


@pytest.fixture(scope="module")
def exact(tiny_model: Path) -> Any:
    """The tiny model in float64 throughout, so that differences can be taken."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float64).eval()
    for name, module in [*model.named_modules()]:
        if name.endswith("norm"):  # its own computes in float32
            norm = torch.nn.RMSNorm(len(module.weight), module.variance_epsilon, dtype=torch.float64)
            norm.weight = module.weight
            model.set_submodule(name, norm)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def steps(engine: TransformersEngine) -> list[Asked]:
    question = Question.of(engine.tokenize, "Question: Was this a good move? Answer:", chat=False)
    said = [
        "Task: Find the coin.\nAn attic.\n> look\n",
        "Task: Find it.\nTwo doors.\n> open blue door\n",
        "> go\n",
    ]
    return [Asked(tuple(engine.tokenize(text)), question) for text in said]


@pytest.fixture
def vector(tmp_path: Path, engine: TransformersEngine) -> Callable[..., Adapter]:
    """Keeps a steering vector of layer 0 that changes what the tiny model says; gives it at a strength."""

    def made(strength: float, seed: int = 0) -> Adapter:
        id = f"steering-s{seed}"
        if not (tmp_path / id).exists():
            lots = torch.Generator().manual_seed(seed)
            added = {0: torch.randn(engine.weights().config.hidden_size, generator=lots)}
            vectors.write(tmp_path, card(id), added)
        return vectors.named(tmp_path, f"{id}@{strength}")

    return made


def card(id: str, layers: tuple[int, ...] = (0,)) -> Card:
    return Card(
        id=id,
        model="tiny",
        fingerprint="f",
        made=SteeringConfig(),
        layers=[*layers],
        steps=1,
        envs=["toy/doors"],
        episodes=["e"],
        score={"base": 0.0, "steered": 0.1, "won": 0.0, "lost": 0.0},
    )


def zeros(model: Any, layers: list[int]) -> dict[int, torch.Tensor]:
    return {at: torch.zeros(model.config.hidden_size, dtype=torch.float64) for at in layers}


# -- the suffix score ----------------------------------------------------------------------------------------------


def test_the_suffix_score_is_the_log_odds_of_yes_against_no(exact: Any, steps: list[Asked]) -> None:
    one, found = steps[0], list[float]()
    for answer in (one.question.yes, one.question.no):
        before = [*one.tokens, *one.question.tokens]
        chances = exact(input_ids=torch.tensor([[*before, *answer]])).logits[0].softmax(-1)
        found.append(math.prod(float(chances[len(before) + at - 1, token]) for at, token in enumerate(answer)))
    odds = found[0] / (found[0] + found[1])  # as the paper has it
    assert float(torch.sigmoid(steering.suffix_score(exact, one, {}))) == pytest.approx(odds, abs=1e-7)


def test_answers_of_one_token_each_are_read_in_one_pass(
    engine: TransformersEngine, heard: Callable[[TransformersEngine], list[list[int]]], steps: list[Asked]
) -> None:
    read = heard(engine)
    one = Asked(steps[0].tokens, Question(steps[0].question.tokens, (7,), (9,)))
    short = float(steering.suffix_score(engine.weights(), one, {}))
    assert read == [[*one.tokens, *one.question.tokens]]
    logits = engine.weights()(input_ids=torch.tensor(read)).logits[0, -1]
    assert short == pytest.approx(float(logits[7] - logits[9]), abs=1e-5)


@pytest.mark.parametrize("far", [0.0, 0.7])
def test_its_gradient_equals_finite_differences(exact: Any, steps: list[Asked], far: float) -> None:
    layers = [0] if exact.config.num_hidden_layers == 2 else [0, 1]
    lots = torch.Generator().manual_seed(1)
    here = {at: far * torch.randn(exact.config.hidden_size, generator=lots, dtype=torch.float64) for at in layers}
    score, gradient = steering.suffix_gradient(exact, steps[1], here)
    assert score == pytest.approx(float(steering.suffix_score(exact, steps[1], here)), abs=1e-12)
    for at in layers:
        for place in (0, 3, exact.config.hidden_size - 1):
            one = torch.zeros_like(here[at])
            one[place] = 1e-4
            above, below = (
                float(steering.suffix_score(exact, steps[1], {**here, at: here[at] + sign * one})) for sign in (1, -1)
            )
            assert float(gradient[at][place]) == pytest.approx((above - below) / 2e-4, rel=1e-4, abs=1e-8)


def test_it_is_the_sum_of_the_gradients_by_the_states_of_all_tokens_before_the_question(
    exact: Any, steps: list[Asked]
) -> None:
    one, found = Asked(steps[0].tokens, Question(steps[0].question.tokens, (7,), (9,))), list[torch.Tensor]()

    def kept(module: Any, inputs: Any, output: Any) -> Any:
        hidden = (output[0] if isinstance(output, tuple) else output).detach().requires_grad_()
        found.append(hidden)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = exact.model.layers[0].register_forward_hook(kept)
    logits = exact(input_ids=torch.tensor([[*one.tokens, *one.question.tokens]])).logits[0, -1]
    handle.remove()
    (by_token,) = torch.autograd.grad(logits[7] - logits[9], found)
    _, gradient = steering.suffix_gradient(exact, one, zeros(exact, [0]))
    torch.testing.assert_close(gradient[0], by_token[0, : len(one.tokens)].sum(0))


def test_the_score_rises_by_a_small_step_along_its_gradient_as_much_as_that_says(
    exact: Any, steps: list[Asked]
) -> None:
    score, gradient = steering.suffix_gradient(exact, steps[0], zeros(exact, [0]))
    step = 1e-4
    after = float(steering.suffix_score(exact, steps[0], {0: step * gradient[0]}))
    assert after > score
    assert after - score == pytest.approx(step * float(gradient[0].square().sum()), rel=1e-2)


def test_self_control_raises_the_score_of_its_steps_and_a_random_direction_as_long_hardly_does(
    engine: TransformersEngine, steps: list[Asked]
) -> None:
    told = list[None]()
    with engine.opened() as model:
        layers = steering.steered_layers(model)
        found = steering.self_control(model, steps, layers, 0.2, lambda: told.append(None))
        norms = steering.lengths(model, steps, layers)
        lots = [steering.random_direction(model, steps, layers, seed) for seed in range(8)]

        def mean(added: dict[int, torch.Tensor], strength: float) -> float:
            pushed = {at: strength * one for at, one in added.items()}
            return sum(float(steering.suffix_score(model, one, pushed)) for one in steps) / len(steps)

        base = mean({}, 0)
        assert base < mean(found, 0.1) < mean(found, 0.2)
        assert mean(found, -0.2) < base
        assert all(mean(random, 0.2) < mean(found, 0.2) for random in lots)
    assert len(told) == steering.ITERATIONS * len(steps)
    for added in (found, *lots):
        for at in layers:
            assert float(added[at].norm()) == pytest.approx(norms[at], rel=1e-5)
    assert torch.equal(lots[3][layers[0]], steering.random_direction(engine.weights(), steps, layers, 3)[layers[0]])


def test_mean_differences_are_those_of_the_states_after_the_last_token(exact: Any, steps: list[Asked]) -> None:
    def state(one: Asked) -> torch.Tensor:
        return exact(input_ids=torch.tensor([one.tokens]), output_hidden_states=True).hidden_states[1][0, -1].float()

    found = steering.mean_difference(exact, steps[:2], steps[2:], [0])[0]
    meant = (state(steps[0]) + state(steps[1])) / 2 - state(steps[2])
    norm = steering.lengths(exact, steps, [0])[0]
    torch.testing.assert_close(found, norm * meant / meant.norm(), rtol=1e-4, atol=1e-5)


def test_layers_are_the_middle_third_and_never_the_last(engine: TransformersEngine) -> None:
    class Deep(torch.nn.Module):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.config = type("Config", (), {"num_hidden_layers": count})
            self.blocks = torch.nn.ModuleList(torch.nn.Identity() for _ in range(count))

    assert steering.steered_layers(Deep(30)) == [*range(10, 20)]
    assert [steering.steered_layers(Deep(count)) for count in (2, 3, 4)] == [[0], [1], [1]]
    with pytest.raises(UnsupportedModel, match="one layer"):
        steering.steered_layers(Deep(1))


def test_a_question_stands_behind_a_transcript_or_as_the_next_message_of_a_chat(tiny_chat_model: Path) -> None:
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(tiny_chat_model)
    tokenize = Tokenizer.of(own)
    plain, chat = (Question.of(tokenize, "Was it good?", chat=chat) for chat in (False, True))
    assert own.decode(plain.tokens).startswith("Was it good?")
    assert own.decode(chat.tokens).strip().startswith("<|im_start|>user\nWas it good?<|im_end|>\n<|im_start|>assistant")
    assert [own.decode(tokens) for tokens in (plain.yes, plain.no, chat.yes, chat.no)] == [" Yes", " No", "Yes", "No"]


# -- a base that plays with it -------------------------------------------------------------------------------------


def test_at_a_strength_the_vector_is_added_to_what_its_layer_hands_on(
    engine: TransformersEngine, vector: Callable[..., Adapter], tiny_model: Path
) -> None:
    from transformers import AutoModelForCausalLM

    steered = vector(0.5)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    added = 0.5 * vectors.read_vectors(steered.folder, model.config.num_hidden_layers, model.config.hidden_size)[0]
    last = model.model.layers[0].mlp.down_proj  # its bias is added to what the layer hands on
    last.bias = torch.nn.Parameter(added)
    ids = torch.tensor([[*range(40, 80)]])
    with torch.inference_mode():
        torch.testing.assert_close(engine.weights(steered)(input_ids=ids).logits, model(input_ids=ids).logits)


def naive(engine: TransformersEngine, ids: list[int], command: str, adapter: Adapter | None) -> float:
    """The log-probability of a command by one plain pass over everything."""
    tail = [*engine.tokenize(rendering.action(command)), *engine.tokenize(rendering.LINE_END)]
    with torch.inference_mode():
        logits = engine.weights(adapter)(input_ids=torch.tensor([[*ids, *tail]])).logits[0].float().log_softmax(-1)
    return sum(float(logits[len(ids) + at - 1, token]) for at, token in enumerate(tail))


def test_all_commands_of_conversations_beside_each_other_score_as_one_by_one(
    engine: TransformersEngine, vector: Callable[..., Adapter]
) -> None:
    players = [None, vector(0.3), vector(-0.3), vector(0.3, seed=1), vector(0.3)]
    talks = [engine.conversation(f"Find coin {at}.") for at in range(len(players))]
    for turn in range(2):
        for talk in talks:
            talk.observe(f"You are in room {turn}. You see a note.")
        found = engine.score([ScoreRequest(talk, COMMANDS, who) for talk, who in zip(talks, players, strict=True)])
        for talk, who, scores in zip(talks, players, found, strict=True):
            one_by_one = [naive(engine, talk.token_ids, command, who) for command in COMMANDS]
            assert scores.logprobs == pytest.approx(one_by_one, abs=2e-4)
            talk.act("look")
    assert len({scores.logprobs[0] for scores in found}) == len(players), "each reads as it is steered"


def test_a_conversation_that_another_strength_has_read_is_read_anew(
    engine: TransformersEngine, vector: Callable[..., Adapter]
) -> None:
    def asked(talk: Any, who: Adapter | None) -> list[float]:
        return engine.score([ScoreRequest(talk, COMMANDS, who)])[0].logprobs

    def begun() -> Any:
        talk = engine.conversation("Find the coin.")
        talk.observe("You are in the attic.")
        return talk

    order = [None, vector(0.3), vector(0.6), None, vector(0.3)]
    talk = begun()
    assert [asked(talk, who) for who in order] == [asked(begun(), who) for who in order]


def test_at_strength_0_everything_is_to_the_byte_as_without(
    engine: TransformersEngine, vector: Callable[..., Adapter]
) -> None:
    def answers(who: Adapter | None) -> list[Any]:
        talk = engine.conversation("Find the coin.")
        talk.observe("You are in the attic. You see a note.")
        aside = [None, Aside("read note", "The blue door is safe."), *[None] * (len(COMMANDS) - 2)]
        ranked = [engine.score([ScoreRequest(talk, COMMANDS, who, asides)])[0].logprobs for asides in ((), aside)]
        writing = engine.conversation("Find the coin.", prompting=Prompting(thought=True))
        writing.observe("You are in the attic.")
        turn = engine.write_turns([TurnRequest(writing, COMMANDS, who, think=5)])[0]
        return [*ranked, turn.text, turn.token_ids, turn.logprobs]

    assert answers(vector(0)) == answers(None)
    assert answers(vector(0.5)) != answers(None)


def test_nothing_stays_on_the_base(
    engine: TransformersEngine, vector: Callable[..., Adapter], steps: list[Asked]
) -> None:
    def hooks() -> Iterator[Any]:
        return (hook for module in engine.weights().modules() for hook in module._forward_hooks.values())

    before = engine.logprob(range(40, 80), [(5, 30)])
    engine.load(vector(0.9))
    with engine.opened() as model:
        steering.self_control(model, steps, [0], 0.5, lambda: None)
        with pytest.raises(KeyboardInterrupt), steering.steer(model, {0: torch.ones(model.config.hidden_size)}):
            raise KeyboardInterrupt
    assert [*hooks()] == [] and engine.logprob(range(40, 80), [(5, 30)]) == before
    assert engine.logprob(range(40, 80), [(5, 30)], vector(0.9)) != before


# -- the folder of one ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["nan", "inf", "-inf", "1e9", "much", "", " ", "0.1@0.2", "0_1", "1_0.5", " 1", "٣"])
def test_a_strength_that_is_none_is_refused_in_one_line(vector: Callable[..., Adapter], given: str) -> None:
    root = vector(0.1).folder.parent
    with pytest.raises(BadConfig) as raised:
        vectors.named(root, f"steering-s0@{given}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["steering-", "steering-../s0", "steering-none", "steering-S0", "steering-s0/../s0@1"])
def test_an_id_that_is_none_never_becomes_a_path(vector: Callable[..., Adapter], name: str) -> None:
    root = vector(0.1).folder.parent
    with pytest.raises(BadSteering) as raised:
        vectors.named(root, name)
    assert "\n" not in str(raised.value)


def test_a_strength_is_the_cards_where_none_is_named_and_written_in_one_way(vector: Callable[..., Adapter]) -> None:
    root = vector(0.1).folder.parent
    assert vectors.named(root, "steering-s0").id == "steering-s0@0.1"
    assert vectors.named(root, "steering-s0@1e-1") == vectors.named(root, "steering-s0@.10")
    with pytest.raises(BadSteering, match="tiny"):
        vectors.named(root, "steering-s0", "another")


def _cut(folder: Path) -> None:
    file = folder / vectors.WEIGHTS
    file.write_bytes(file.read_bytes()[:-9])


def _other_layers(folder: Path) -> None:
    file = folder / vectors.CARD
    file.write_text(file.read_text().replace('"layers": [\n  0\n ]', '"layers": [1]'))


def _changed(folder: Path) -> None:
    file = folder / vectors.WEIGHTS
    written = file.read_bytes()
    file.write_bytes(written[:-1] + bytes([written[-1] ^ 1]))


def _not_sealed(folder: Path) -> None:
    card = vectors.read_card(folder)
    (folder / vectors.CARD).write_text(card.model_copy(update={"sha256": ""}).model_dump_json())


def _no_number(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"0": torch.full((64,), torch.nan)}, folder / vectors.WEIGHTS)
    card = vectors.read_card(folder).model_copy(update={"sha256": vectors.sha256(folder / vectors.WEIGHTS)})
    (folder / vectors.CARD).write_text(card.model_dump_json())


def _not_its_card(folder: Path) -> None:
    file = folder / vectors.CARD
    file.write_text(file.read_text().replace("steering-s0", "steering-other"))


@pytest.mark.parametrize(
    "harm",
    [
        _cut,
        _other_layers,
        _changed,
        _not_sealed,
        _no_number,
        _not_its_card,
        lambda folder: (folder / vectors.WEIGHTS).unlink(),
        lambda folder: (folder / vectors.CARD).write_text("{"),
        lambda folder: (folder / vectors.CARD).unlink(),
    ],
)
def test_a_damaged_one_is_refused_in_one_line(
    vector: Callable[..., Adapter], engine: TransformersEngine, harm: Callable[[Path], object]
) -> None:
    steered = vector(0.37)
    harm(steered.folder)
    with pytest.raises(BadSteering) as raised:
        engine.load(steered)
    assert "\n" not in str(raised.value)


def test_one_of_another_models_shape_is_refused(tmp_path: Path, engine: TransformersEngine) -> None:
    width = engine.weights().config.hidden_size
    vectors.write(tmp_path, card("steering-wide"), {0: torch.ones(width + 1)})
    vectors.write(tmp_path, card("steering-deep", (99,)), {99: torch.ones(width)})
    for name in ("steering-wide", "steering-deep"):
        with pytest.raises(BadSteering, match="another shape"):
            engine.load(vectors.named(tmp_path, name))


def test_what_was_written_when_the_process_died_is_no_vector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*paths: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        vectors.write(tmp_path, card("steering-a"), {0: torch.ones(4)})
    assert vectors.cards(tmp_path, pytest.fail) == []
    monkeypatch.undo()
    kept = vectors.write(tmp_path, card("steering-a"), {0: torch.ones(4)})
    assert vectors.cards(tmp_path, pytest.fail) == [kept]


def test_only_engines_whose_model_lies_open_can_be_steered(engine: TransformersEngine) -> None:
    from agentlab.engines.chat import ChatEngine
    from agentlab.engines.vllm import VllmEngine

    assert vectors.must_open(engine) is engine
    assert not any(hasattr(kind, "opened") for kind in (VllmEngine, ChatEngine))
    with pytest.raises(AgentLabError, match="local") as raised:
        vectors.must_open(ScriptedEngine(lambda transcript, command: 0.0))
    assert "\n" not in str(raised.value)
