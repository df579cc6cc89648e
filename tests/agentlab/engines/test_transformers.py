from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM

from agentlab.engines import adapted
from agentlab.engines.base import Adapter, Adapting, Conversing, Likelihood, Scorer, Tokenizing, Writer, Writing
from agentlab.engines.cached import CachedConversation
from agentlab.engines.model import Model
from agentlab.engines.transformers import TransformersEngine, best_dtype
from agentlab.errors import ContextExceeded, ModelTooLarge, Unacceptable
from memory.prompts import Message, rendering
from memory.records import Episode, Step
from trainers.data.examples import from_episode
from trainers.errors import BadAdapter, CanaryFailed
from trainers.objectives.tree import TokenTree
from trainers.training.canary import Canary

Heard = Callable[[TransformersEngine], list[list[int]]]

COMMANDS = ["look", "open black door", "open blue door", "open blue", "read note", "take coin", "jump ✓"]


def naive(engine: TransformersEngine, ids: list[int], command: str, adapter: Adapter | None = None) -> float:
    """The log-probability of a command by one plain forward pass over everything."""
    tail = [*engine.tokenize(rendering.action(command)), *engine.tokenize(rendering.LINE_END)]
    with torch.inference_mode():
        logits = engine.weights(adapter)(input_ids=torch.tensor([[*ids, *tail]])).logits[0].float().log_softmax(-1)
    return sum(float(logits[len(ids) + at - 1, token]) for at, token in enumerate(tail))


def played(engine: TransformersEngine, turns: int, hints: str = "") -> CachedConversation:
    """A conversation in which `turns` commands were scored and taken."""
    conversation = engine.conversation("Find the coin.", hints)
    conversation.observe("You are in the attic. You see a note.")
    for turn in range(turns):
        Model(engine).score(conversation, COMMANDS)
        conversation.act(COMMANDS[turn % len(COMMANDS)])
        conversation.observe(f"The note says: the {'blue' if turn % 2 else 'red'} door is safe.")
    return conversation


def test_it_is_an_engine_named_after_its_folder(engine: TransformersEngine) -> None:
    assert all(isinstance(engine, port) for port in (Scorer, Writer, Conversing, Tokenizing, Adapting, Likelihood))
    assert engine.name == "tiny-llama"


@pytest.mark.parametrize("turns", [0, 1, 4])
def test_scores_are_those_of_one_plain_pass_per_candidate(engine: TransformersEngine, turns: int) -> None:
    conversation = played(engine, turns, hints="- Read the note first.")
    scores = Model(engine).score(conversation, COMMANDS).logprobs
    assert scores == pytest.approx([naive(engine, conversation.token_ids, c) for c in COMMANDS], abs=1e-4)
    assert len(set(scores)) == len(COMMANDS)


def test_scoring_leaves_no_trace_of_the_candidates(engine: TransformersEngine) -> None:
    conversation = played(engine, 1)
    first = Model(engine).score(conversation, COMMANDS).logprobs
    Model(engine).score(conversation, ["sing a song", "open the red door"])
    assert Model(engine).score(conversation, COMMANDS).logprobs == pytest.approx(first, abs=1e-4)


def test_equal_candidates_have_equal_scores_and_one_candidate_is_enough(engine: TransformersEngine) -> None:
    conversation = played(engine, 1)
    first, second = Model(engine).score(conversation, ["look", "look"]).logprobs
    assert first == second == pytest.approx(Model(engine).score(conversation, ["look"]).logprobs[0], abs=1e-4)


def test_a_step_pays_for_its_new_tokens_only(engine: TransformersEngine, heard: Heard) -> None:
    conversation = played(engine, 3)
    Model(engine).score(conversation, ["look"])
    conversation.act("look")
    conversation.observe("Dark.")
    new, read = len(conversation.pending), heard(engine)
    Model(engine).score(conversation, ["look"])
    inner = len(engine.command_tokens("look")) - 1
    assert [len(one) for one in read] == [new + inner]


def test_the_tokens_of_a_conversation_are_those_that_training_makes(engine: TransformersEngine) -> None:
    conversation = played(engine, 2)
    observations = ["You are in the attic. You see a note.", "The note says: the red door is safe."]
    steps = [
        Step(index=at, observation=seen, state="", admissible=COMMANDS, action=action, result="", next_state="")
        for at, (seen, action) in enumerate(zip(observations, COMMANDS, strict=False))
    ]
    episode = Episode(id="e", run="r", env="x", split="train", seed=0, goal="Find the coin.", steps=steps)
    example = from_episode(episode, engine.tokenize)
    assert conversation.token_ids[: len(example)] == example.token_ids
    assert conversation.action_spans == example.spans
    played_text = engine.tokenizer.decode(conversation.token_ids)
    assert played_text == conversation.text


def test_the_log_probability_of_what_was_chosen_can_be_asked_later(engine: TransformersEngine) -> None:
    conversation = played(engine, 0)
    score = Model(engine).score(conversation, ["read note"]).logprobs[0]
    conversation.act("read note")
    assert engine.logprob(conversation.token_ids, conversation.action_spans) == pytest.approx(score, abs=1e-4)


def test_a_full_window_drops_the_oldest_turns_and_keeps_the_head(tiny_model: Path) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu", context=160)
    conversation = engine.conversation("Find the coin.", "- Read the note first.")
    head = conversation.head_length
    for turn in range(20):
        conversation.observe(f"You are in the attic, for the {turn}th time. You see a note.")
        scores = Model(engine).score(conversation, COMMANDS).logprobs
        kept = conversation.seen
        assert len(kept) <= 160
        assert kept[:head] == conversation.token_ids[:head]
        # What is kept behind the head begins at a border between turns.
        start = len(conversation.token_ids) - (len(kept) - head)
        assert start in conversation.turn_starts
        assert kept[head:] == conversation.token_ids[start:]
        assert scores == pytest.approx([naive(engine, kept, command) for command in COMMANDS], abs=1e-3)
        conversation.act("look")
    assert len(conversation.token_ids) > 2 * 160
    assert len(conversation.action_spans) == 20


def test_many_candidates_count_as_part_of_the_window(tiny_model: Path) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu", context=160)
    conversation = engine.conversation("Find the coin.")
    commands = [f"open the {first}{second}" for first in "abcdefghijklmnopqrst" for second in "klmn"]
    nodes = len(TokenTree.of([engine.command_tokens(command) for command in commands]))
    assert 80 < nodes < 120
    for turn in range(8):
        conversation.observe(f"Room number {turn}.")
        Model(engine).score(conversation, commands)
        assert len(conversation.seen) + nodes <= 160
        conversation.act("look")


def test_the_window_is_never_larger_than_the_models_own(tiny_model: Path) -> None:
    assert TransformersEngine(tiny_model, context=1_000_000, dtype="float32", device="cpu").context == 2048


def test_a_closed_conversation_gives_its_cache_back_and_can_be_read(engine: TransformersEngine) -> None:
    conversation = played(engine, 1)
    conversation.close()
    assert conversation.cache is None
    assert conversation.text.startswith("Task: Find the coin.")
    assert Model(engine).score(conversation, ["look"]).logprobs == pytest.approx(
        [naive(engine, conversation.token_ids, "look")], abs=1e-4
    )


def test_an_engine_with_an_adapter_plays_with_it_and_the_base_stays_what_it_was(
    tiny_model: Path, adapter: Callable[..., Path]
) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    folder = adapter()
    base = Model(engine).score(played(engine, 0), COMMANDS).logprobs
    other = Model(engine, Adapter("ad-1", folder))
    assert other.adapter_id == "ad-1"
    recorded = Canary.load(folder / "canary.json")
    assert engine.logprob(recorded.token_ids, recorded.spans, other.adapter) == pytest.approx(
        recorded.adapter_logprob, abs=1e-2
    )
    changed = other.score(played(engine, 0), COMMANDS).logprobs
    assert max(abs(a - b) for a, b in zip(base, changed, strict=True)) > 0.01
    assert Model(engine).score(played(engine, 0), COMMANDS).logprobs == base
    assert other.score(played(engine, 0), COMMANDS).logprobs == changed


def test_an_adapter_that_does_not_sing_is_refused_and_the_base_keeps_serving(
    tiny_model: Path, adapter: Callable[..., Path]
) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    base = Model(engine).score(played(engine, 0), COMMANDS).logprobs
    with pytest.raises(CanaryFailed, match="canary scored"):
        Model(engine, Adapter("ad-1", adapter(off_by=50.0)))
    assert Model(engine).score(played(engine, 0), COMMANDS).logprobs == base


def test_an_adapter_without_its_canary_is_refused(tiny_model: Path, adapter: Callable[..., Path]) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    folder = adapter()
    (folder / "canary.json").unlink()
    with pytest.raises(BadAdapter, match="canary"):
        Model(engine, Adapter("ad-1", folder))


def test_loading_draws_no_bar_and_warns_of_nothing(
    tiny_model: Path, adapter: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = adapter()
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Model(TransformersEngine(tiny_model, dtype="float32", device="cpu"), Adapter("ad-1", folder))
    assert capfd.readouterr() == ("", "")


def counted_loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is loaded from now on, model by model and adapter by adapter."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loads: list[str] = []
    base, adapter = AutoModelForCausalLM.from_pretrained, PeftModel.from_pretrained
    monkeypatch.setattr(
        AutoModelForCausalLM, "from_pretrained", lambda *args, **rest: loads.append("base") or base(*args, **rest)
    )
    monkeypatch.setattr(
        PeftModel, "from_pretrained", lambda *args, **rest: loads.append("adapter") or adapter(*args, **rest)
    )
    return loads


@pytest.mark.parametrize("merges", [True, False])
def test_adapters_in_turn_are_each_loaded_once_and_the_base_never_again(
    tiny_model: Path, adapter: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, merges: bool
) -> None:
    folders = {f"ad-{seed}": adapter(f"ad-{seed}", seed) for seed in range(1, 4)}
    if not merges:
        monkeypatch.setattr(adapted, "MERGED_BELOW", 0)
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    alone = {
        name: Model(TransformersEngine(tiny_model, dtype="float32", device="cpu"), Adapter(name, folder))
        for name, folder in folders.items()
    }
    loads = counted_loads(monkeypatch)
    for _ in range(20):
        for name, folder in folders.items():
            other = Model(engine, Adapter(name, folder))
            scores = other.score(played(engine, 0), COMMANDS[:2]).logprobs
    assert loads == ["adapter"] * 3
    one = alone["ad-3"]
    assert scores == pytest.approx(one.score(played(one.engine, 0), COMMANDS[:2]).logprobs, abs=1e-4)


def test_an_adapter_beside_its_base_scores_as_the_merged_one(
    tiny_model: Path, adapter: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = adapter()
    merged = Model(TransformersEngine(tiny_model, dtype="float32", device="cpu"), Adapter("ad-1", folder))
    monkeypatch.setattr(adapted, "MERGED_BELOW", 0)
    beside = Model(TransformersEngine(tiny_model, dtype="float32", device="cpu"), Adapter("ad-1", folder))
    assert beside.score(played(beside.engine, 3), COMMANDS).logprobs == pytest.approx(
        merged.score(played(merged.engine, 3), COMMANDS).logprobs, abs=1e-3
    )
    assert any("lora" in name for name, _ in beside.engine.weights(beside.adapter).named_parameters())
    assert not any("lora" in name for name, _ in merged.engine.weights(merged.adapter).named_parameters())


def test_a_merged_adapter_is_the_sum_rounded_once(tiny_model: Path, adapter: Callable[..., Path]) -> None:
    folder = adapter()
    rounded = Model(TransformersEngine(tiny_model, dtype=torch.bfloat16, device="cpu"), Adapter("ad-1", folder))
    exact = Model(TransformersEngine(tiny_model, dtype="float32", device="cpu"), Adapter("ad-1", folder))
    for (name, found), meant in zip(
        rounded.engine.weights(rounded.adapter).named_parameters(),
        exact.engine.weights(exact.adapter).parameters(),
        strict=True,
    ):
        assert torch.equal(found, meant.bfloat16()), name


def test_positions_are_as_exact_in_bfloat16_as_where_the_adapter_was_trained(tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    engine = TransformersEngine(tiny_model, dtype=torch.bfloat16, device="cpu")
    loaded = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    for (name, found), meant in zip(engine.weights().named_buffers(), loaded.buffers(), strict=True):
        assert torch.equal(found, meant) and found.dtype == meant.dtype, name


def test_adapters_share_with_the_base_what_they_leave_alone_and_few_are_kept(
    tiny_model: Path, adapter: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapted, "KEPT", 0)
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    folders = {f"ad-{seed}": adapter(f"ad-{seed}", seed) for seed in range(1, 6)}
    others = [Model(engine, Adapter(name, folder)) for name, folder in folders.items()]
    loads = counted_loads(monkeypatch)
    places = {
        engine.weights(other).get_input_embeddings().weight.data_ptr()
        for other in [*(other.adapter for other in others[-3:]), None]
    }
    assert len(places) == 1 and loads == []
    assert others[0].adapter_id == "ad-1" and others[0].score(played(engine, 0), ["look"]).logprobs
    assert loads == ["adapter"]  # the first had to go, and came back for the one who asked


def test_a_conversation_that_meets_another_adapter_is_read_again(
    tiny_model: Path, adapter: Callable[..., Path]
) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    conversation = played(engine, 2)
    base = Model(engine).score(conversation, COMMANDS).logprobs
    other = Model(engine, Adapter("ad-1", adapter()))
    for _ in range(2):
        scores = other.score(conversation, COMMANDS).logprobs
        assert scores == pytest.approx(
            [naive(engine, conversation.token_ids, c, other.adapter) for c in COMMANDS], abs=1e-4
        )
        assert Model(engine).score(conversation, COMMANDS).logprobs == pytest.approx(base, abs=1e-4)


def test_writing_is_repeatable_greedily_and_by_seed(engine: TransformersEngine) -> None:
    greedy = [Model(engine).write("Find the coin.", max_tokens=6).text for _ in range(2)]
    assert greedy[0] == greedy[1]
    before = torch.get_rng_state()
    sampled = [Model(engine).write("Find it.", max_tokens=12, temperature=1.5, seed=seed).text for seed in (3, 3, 4)]
    assert sampled[0] == sampled[1] != sampled[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_chat_model_is_asked_through_its_template(tiny_model: Path, heard: Heard) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    engine.tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %} =>"
    asked = heard(engine)
    Model(engine).write("Hello?", max_tokens=2)
    assert engine.tokenizer.decode(asked[0]) == "[user] Hello? =>"


def test_a_prompt_longer_than_the_window_keeps_its_end(tiny_model: Path, heard: Heard) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu", context=64)
    asked = heard(engine)
    Model(engine).write("read note " * 100 + "The end?", max_tokens=16)
    assert len(asked[0]) + 16 == 64
    assert engine.tokenizer.decode(asked[0]).endswith("The end?")


def test_a_thought_that_the_template_opens_is_told_by_its_tag(tiny_model: Path) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    template = "{% for m in messages %}{{ m.content }}{% endfor %} =>"
    engine.tokenizer.chat_template = template
    plain = Model(engine).write("Hello?", max_tokens=4).text
    engine.tokenizer.chat_template = template + "<think>\n"
    assert Model(engine).write("Hello?", max_tokens=4).text.startswith("<think>")
    engine.tokenizer.chat_template = template + "<think>\n\n</think>\n\n"
    assert not Model(engine).write("Hello?", max_tokens=4).text.startswith("<think>")
    assert not plain.startswith("<think>")


def test_a_window_that_has_no_room_for_the_answer_shortens_it(tiny_model: Path) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu", context=64)
    assert isinstance(Model(engine).write("read note " * 20, max_tokens=1000).text, str)


CHAT = (Message("system", "Be brief."), Message("user", "Where am I?"), Message("assistant", "In the hall."))
GO_ON = "And the coin?"


def test_a_chat_is_read_by_the_template_with_all_its_messages(tiny_chat_model: Path) -> None:
    engine = TransformersEngine(tiny_chat_model, dtype="float32", device="cpu")
    said = [{"role": one.role, "content": one.text} for one in [*CHAT, Message("user", GO_ON)]]
    text = engine.tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    writing = Model(engine).write(GO_ON, before=CHAT, max_tokens=4)
    assert writing.usage.input_tokens == len(engine.tokenizer(text, add_special_tokens=False).input_ids)
    assert writing.usage.input_tokens > Model(engine).write(GO_ON, max_tokens=4).usage.input_tokens


def test_a_chat_is_read_whole_or_not_at_all(tiny_chat_model: Path) -> None:
    model = Model(TransformersEngine(tiny_chat_model, dtype="float32", device="cpu", context=64))
    long = "read note " * 60
    assert model.write(long, max_tokens=4).text is not None
    with pytest.raises(ContextExceeded, match="64"):
        model.write(long, max_tokens=4, whole=True)
    # What is left of the context is the answer's, however much was asked for.
    short = model.write("read note", max_tokens=1000, whole=True, temperature=2.0)
    assert short.usage.input_tokens + short.usage.output_tokens <= 64


def test_whoever_listens_hears_the_text_as_it_grows_and_may_end_it(tiny_chat_model: Path) -> None:
    model, heard = Model(TransformersEngine(tiny_chat_model, dtype="float32", device="cpu")), list[str]()
    silent = model.write(GO_ON, max_tokens=8)
    told = model.write(GO_ON, max_tokens=8, listener=lambda text: heard.append(text) or True)
    assert (told.text, told.token_ids, told.cut) == (silent.text, silent.token_ids, silent.cut)
    assert heard and heard[-1].strip() == told.text and told.cut
    assert all(later.startswith(earlier.rstrip("\ufffd")) for earlier, later in pairwise(heard))
    ended = model.write(GO_ON, max_tokens=8, listener=lambda text: False)
    assert len(ended.token_ids) == 1 and not ended.cut


def test_of_those_who_are_read_in_one_pass_each_hears_its_own_text(tiny_chat_model: Path) -> None:
    model = Model(TransformersEngine(tiny_chat_model, dtype="float32", device="cpu", gather=True))
    heard: dict[str, list[str]] = {"read note": [], "take coin": [], "look": []}

    def write(prompt: str) -> Writing:
        with model.episode():
            going = iter([True] * 2 + [prompt != "look"] * 9)
            return model.write(prompt, max_tokens=6, listener=lambda text: heard[prompt].append(text) or next(going))

    with ThreadPoolExecutor() as pool:
        told = dict(zip(heard, pool.map(write, heard), strict=True))
    assert len(told["look"].token_ids) == 3, "who has heard enough is not written for; the others are"
    assert all(heard[prompt][-1].strip() == told[prompt].text for prompt in heard)
    alone = model.write("take coin", max_tokens=6)
    assert (told["take coin"].text, len(told["take coin"].token_ids)) == (alone.text, 6)


def test_a_template_without_a_system_has_its_words_in_the_first_message(tiny_chat_model: Path) -> None:
    engine = TransformersEngine(tiny_chat_model, dtype="float32", device="cpu")
    known = engine.tokenizer.chat_template
    no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + known
    engine.tokenizer.chat_template = no_system
    meant = Model(engine).write(GO_ON, before=[Message("user", "Be brief.\n\nWhere am I?"), CHAT[2]], max_tokens=4)
    assert Model(engine).write(GO_ON, before=CHAT, max_tokens=4) == meant
    alone = Model(engine).write(f"Be brief.\n\n{GO_ON}", max_tokens=4)
    assert Model(engine).write(GO_ON, before=CHAT[:1], max_tokens=4) == alone
    engine.tokenizer.chat_template = "{{ raise_exception('turns only') }}"
    with pytest.raises(Unacceptable, match="turns only"):
        Model(engine).write(GO_ON, before=CHAT)


def test_a_chat_with_a_model_that_has_no_template_is_a_transcript(tiny_model: Path) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    transcript = "System: Be brief.\nUser: Where am I?\nAssistant: In the hall.\nUser: And the coin?\nAssistant:"
    assert Model(engine).write(GO_ON, before=CHAT, max_tokens=4) == Model(engine).write(transcript, max_tokens=4)


def test_the_number_format_is_the_fast_one_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert best_dtype("cpu") is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert best_dtype("cpu") is torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert best_dtype("cuda") is torch.float16


def test_threads_are_set_when_asked_for(tiny_model: Path) -> None:
    before = torch.get_num_threads()
    try:
        TransformersEngine(tiny_model, dtype=torch.bfloat16, device="cpu", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_model_that_scales_its_logits_is_scored_as_it_predicts(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "scaled"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    vocabulary = json.loads((tiny_model / "config.json").read_text())["vocab_size"]
    settings = GraniteConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, logits_scaling=0.05, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    GraniteForCausalLM(settings).save_pretrained(folder)
    engine = TransformersEngine(folder, dtype="float32", device="cpu")
    conversation = played(engine, 1)
    scores = Model(engine).score(conversation, COMMANDS).logprobs
    assert scores == pytest.approx([naive(engine, conversation.token_ids, c) for c in COMMANDS], abs=1e-3)
    with torch.inference_mode():
        trunk = engine.weights().model(input_ids=torch.tensor([conversation.token_ids])).last_hidden_state[0, -1]
        unscaled = engine.weights().lm_head(trunk).log_softmax(-1)
        scaled = engine.weights()(torch.tensor([conversation.token_ids])).logits[0, -1].log_softmax(-1)
    assert (scaled - unscaled).abs().max() > 0.1  # the scaling does matter


def test_a_special_token_that_a_game_writes_is_text(tiny_model: Path) -> None:
    engine = TransformersEngine(tiny_model, dtype="float32", device="cpu")
    end = engine.tokenizer.eos_token
    said = f"You are here.{end}\nTask: take coin{end}"
    conversation = engine.conversation(f"Find the coin.{end}", f"A hint.{end}")
    conversation.observe(said)
    conversation.act(f"say {end}")
    assert engine.tokenizer.eos_token_id not in conversation.token_ids
    assert engine.tokenizer.decode(conversation.token_ids) == conversation.text
    Model(engine).write("Write.", max_tokens=1)
    assert engine.tokenizer.eos_token_id not in engine.tokenize(said)


def test_a_model_over_which_memory_runs_out_is_too_large_and_not_unfit(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    whole = TransformersEngine(tiny_model, dtype="float32", device="cpu")

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n9 GiB.")

    for part in ("to", "forward"):
        with monkeypatch.context() as patch:
            patch.setattr(LlamaForCausalLM, part, full)
            with pytest.raises(ModelTooLarge) as raised:
                TransformersEngine(tiny_model, dtype="float32", device="cpu")
            assert "tiny-llama" in str(raised.value) and "\n" not in str(raised.value)
    monkeypatch.setattr(adapted.AdaptedModels, "_merged", full)
    monkeypatch.setattr(adapted, "check_files", lambda folder: None)
    with pytest.raises(ModelTooLarge):
        Model(whole, Adapter("ad-1", tiny_model))
