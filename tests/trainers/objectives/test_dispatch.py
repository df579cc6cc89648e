"""Every objective trains a real job: all weights move, it can be killed, and the base is asked once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers import job
from trainers.data.examples import Example
from trainers.data.records import Choice, Distilled, Judged, Pair, Record, Regularised
from trainers.errors import BadExample, NotAJob, OutOfMemory
from trainers.objectives import dispatch, losses
from trainers.objectives.base import Item
from trainers.objectives.experimental import mismatch, rotated
from trainers.objectives.losses import collate, divergence, example_logprobs, vocabulary_logprobs
from trainers.training import canary as canaries
from trainers.training import setup, training

WEIGHTS = Path("adapter") / "adapter_model.safetensors"


def single(number: int, action: list[int]) -> Example:
    """A prompt of its own and one action, whose tokens weigh 1, 2 or 3 each."""
    prompt = [(number * 37 + at * 11) % 500 for at in range(8 + number)]
    weights = [0.0] * len(prompt) + [1.0 + number % 3] * len(action)
    return Example(token_ids=prompt + action, weights=weights, episode=f"e{number}", task=f"t{number}")


def pairs(count: int = 4) -> list[Record]:
    return [
        Pair(better=single(number, [7, 8, 9]), worse=single(number, [7, 3]), weight=0.5 + number)
        for number in range(count)
    ]


def choices(count: int = 4) -> list[Record]:
    made: list[Record] = []
    for number in range(count):
        example = single(number, [7, 8, 9])
        choice = Choice(at=len(example) - 3, candidates=[[7, 8, 9], [7, 3], [2]], probabilities=[0.7, 0.2, 0.1])
        made.append(Distilled(example=example, choices=[choice]))
    return made


def held(count: int = 4) -> list[Record]:
    return [
        Regularised(example=single(number, [7, 8, 9]), reference=single(10 + number, [4, 5, 6]))
        for number in range(count)
    ]


RECORDS: dict[str, Callable[[], list[Record]]] = {
    "sft": lambda: [single(9, [7, 8, 9]), *held(3)],
    "minor_sft": lambda: [single(number, [7, 8, 9]) for number in range(4)],
    "soft_distill": choices,
    "dpo": pairs,
    "step_dpo": pairs,
    "kto": lambda: [
        Judged(example=single(number, [7, 8, 9] if number % 2 else [7, 3]), desirable=bool(number % 2))
        for number in range(4)
    ],
}


@pytest.fixture
def quick(config: job.JobConfig) -> job.JobConfig:
    """Two steps: in the first the zeros of B keep A where it is."""
    return config.model_copy(update={"batch_size": 2, "epochs": 1, "warmup_ratio": 0.0, "dtype": "float32"})


def initial(config: job.JobConfig) -> dict[str, torch.Tensor]:
    """The LoRA weights before the first step, named as in the adapter's file."""
    assert config.base.path is not None
    model = training._model(config, Path(config.base.path), setup.resolve(config, 50))
    return {name.replace(".default", ""): tensor for name, tensor in model.named_parameters() if "lora" in name}


@pytest.mark.parametrize("objective", RECORDS)
def test_every_lora_weight_moves_and_the_adapter_proves_that_it_is_on(
    tmp_path: Path, quick: job.JobConfig, tiny_model: Path, objective: str
) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    # KTO runs a second pass without a gradient, whose copies of the weights autocast must not hand to the first.
    dtype = "bfloat16" if objective == "kto" else "float32"
    settings = quick.model_copy(update={"objective": objective, "dtype": dtype})
    records = RECORDS[objective]()
    made = job.create(tmp_path / "job", settings, records)
    assert job.load(tmp_path / "job").examples == records and job.load(tmp_path / "job").id == made.id
    outcome = job.run(tmp_path / "job")

    weights, before = load_file(tmp_path / "job" / WEIGHTS), initial(settings)
    assert set(weights) == set(before) and len(weights) == 4 * 7 * 2
    assert all(not torch.equal(tensor, before[name]) for name, tensor in weights.items())

    report = outcome.report
    assert set(report.measures) == set(dispatch.objective_of(settings, records).measures)
    assert [len(values) for values in report.measures.values()] == [2] * len(report.measures)
    assert (report.steps, report.examples, report.tokens) == (2, 4, sum(map(len, records)))

    # The canary's text is one that was to become more likely.
    texts = [taught.token_ids for record in records if (taught := record.taught)]
    assert outcome.canary.token_ids in texts
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), outcome.adapter).eval()
    spans = [float(any(a <= at < b for a, b in outcome.canary.spans)) for at in range(len(outcome.canary.token_ids))]
    example = Example(token_ids=outcome.canary.token_ids, weights=spans, episode="e", task="t")
    with torch.no_grad():
        assert float(example_logprobs(model, collate([example]))) == pytest.approx(
            outcome.canary.adapter_logprob, abs=canaries.ROUNDING
        )
    assert outcome.canary.adapter_logprob > outcome.canary.base_logprob


def test_what_is_measured_begins_at_the_base_and_leaves_it(tmp_path: Path, quick: job.JobConfig) -> None:
    for objective, name in [("dpo", "margin"), ("minor_sft", "drift"), ("kto", "reference")]:
        settings = quick.model_copy(update={"objective": objective, "batch_size": 4, "epochs": 3})
        job.create(tmp_path / objective, settings, RECORDS[objective]())
        values = job.run(tmp_path / objective).report.measures[name]
        assert values[0] == pytest.approx(0.0, abs=1e-3), objective
        assert values[-1] > 0 if objective != "kto" else values[-1] >= 0


def test_an_adapter_that_is_held_learns_as_much_and_changes_less_elsewhere(
    tmp_path: Path, quick: job.JobConfig, tiny_model: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    settings = quick.model_copy(update={"batch_size": 4, "epochs": 15, "learning_rate": 1e-2})
    both = [record for record in held() if isinstance(record, Regularised)]
    learned, moved = [], []
    for name, records in (("free", [record.example for record in both]), ("held", both)):
        job.create(tmp_path / name, settings, records)
        outcome = job.run(tmp_path / name)
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), outcome.adapter).eval()
        elsewhere = collate([record.reference for record in both])
        with torch.no_grad():
            learned.append(float(example_logprobs(model, collate([both[0].example]))))
            own, _ = vocabulary_logprobs(model, elsewhere)
            with model.disable_adapter():
                base, _ = vocabulary_logprobs(model, elsewhere)
        moved.append(float(divergence(own, base).mean()))
    assert learned == pytest.approx([0.0, 0.0], abs=0.5)
    assert moved[1] < moved[0] / 4


@pytest.mark.parametrize("objective", RECORDS)
def test_the_loss_of_a_batch_adds_up_whatever_its_parts(objective: str, config: job.JobConfig) -> None:
    settings = config.model_copy(update={"objective": objective, "dtype": "float32"})
    assert settings.base.path is not None
    model: Any = training._model(settings, Path(settings.base.path), setup.resolve(settings, 50)).eval()
    records = RECORDS[objective]()
    made = dispatch.objective_of(settings, records)
    items = made.prepare(records)
    with torch.no_grad():
        if isinstance(made, dispatch.Comparing):
            with model.disable_adapter():
                rows = made.compared(model, made.collate(items), model).tolist()
            items = [item._replace(base=tuple(row)) for item, row in zip(items, rows, strict=True)]
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
        whole = made.cost(model, made.collate(items), model)
        parts = [made.cost(model, made.collate(part), model) for part in (items[:3], items[3:])]
    shares = [made.mass(part) / made.mass(items) for part in (items[:3], items[3:])]
    # Each part of KTO estimates its own reference point.
    assert whole.loss.item() == pytest.approx(
        sum(share * part.loss.item() for share, part in zip(shares, parts, strict=True)),
        rel=0.1 if objective == "kto" else 1e-4,
    )
    for name in made.measures if objective != "kto" else ():
        values = [part.measures[name].item() for part in parts]
        assert values[0] != values[1] or name == "accuracy"
        assert whole.measures[name].item() == pytest.approx(
            sum(share * value for share, value in zip(shares, values, strict=True)), rel=1e-4
        )


@pytest.mark.parametrize("objective", ["dpo", "step_dpo"])
def test_dpo_is_dpo_alone_unless_the_likelihood_is_asked_for(
    tmp_path: Path, quick: job.JobConfig, objective: str
) -> None:
    records = [record.model_copy(update={"weight": 1.0}) for record in RECORDS[objective]()]
    first = []
    for name, asked in (("plain", {}), ("with likelihood", {"nll_weight": 1.0})):
        settings = quick.model_copy(update={"objective": objective, "batch_size": 4, **asked})
        job.create(tmp_path / name, settings, records)
        first.append(job.run(tmp_path / name).report.losses[0])
    # Before the first step policy and base are one: -log σ(0).
    assert first[0] == pytest.approx(0.6931, abs=1e-3)
    assert first[1] > first[0] + 1


@pytest.mark.parametrize("places", [1, 4, 1000])
def test_holding_asks_for_few_distributions_at_once_and_comes_to_the_same(
    config: job.JobConfig, monkeypatch: pytest.MonkeyPatch, places: int
) -> None:
    """Σ w·−log p where it teaches, Σ w·KL(base || policy) elsewhere, over the sum of all weights."""
    settings = config.model_copy(update={"dtype": "float32"})
    assert settings.base.path is not None
    model: Any = training._model(settings, Path(settings.base.path), setup.resolve(settings, 50)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    records = [record for record in held() if isinstance(record, Regularised)]
    made = dispatch.objective_of(settings, records)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    own, at = vocabulary_logprobs(model, collate([record.example for record in records]))
    taught = collate([record.example for record in records])
    elsewhere = collate([record.reference for record in records])
    policy, there = vocabulary_logprobs(model, elsewhere)
    with torch.no_grad(), model.disable_adapter():
        base, _ = vocabulary_logprobs(model, elsewhere)
    apart = (elsewhere.weights[there] * divergence(policy, base)).sum()
    mass = taught.weights.sum() + elsewhere.weights.sum()
    unlikely = -(taught.weights[at] * own.gather(-1, taught.token_ids[at].unsqueeze(-1)).squeeze(-1)).sum()
    expected = (unlikely + apart) / mass
    gradients = torch.autograd.grad(expected, trained)

    sizes: list[int] = []
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda module, inputs, output: sizes.append(output.numel()))
    monkeypatch.setattr(losses, "LOGITS", places * 512, raising=False)
    cost = made.cost(model, made.collate(made.prepare(records)), model)
    found = torch.autograd.grad(cost.loss, trained)
    assert cost.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert cost.measures["kl"].item() == pytest.approx((apart / mass).item(), rel=1e-4) and apart > 0.01
    for ours, theirs in zip(found, gradients, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    # The policy's and the base's are laid beside each other.
    assert max(sizes) <= 2 * places * 512


KILLS = {
    "between two checkpoints": "progress = lambda done, total, metrics: done == 5 and die()",
    "at the third of the four batches that the base is asked about": (
        "from trainers.training import baseline; ask, asked = baseline.ask, []\n"
        "def dies(*what): asked.append(what); len(asked) == 3 and die(); return ask(*what)\n"
        "baseline.ask = dies"
    ),
}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, config: job.JobConfig) -> Path:
    """A DPO job of eight steps that ran to its end. Do not change it."""
    folder = tmp_path_factory.mktemp("dpo") / "job"
    job.create(folder, config.model_copy(update={"objective": "dpo", "batch_size": 1}), pairs())
    job.run(folder)
    return folder


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_job_goes_on_to_the_same_weights_and_asks_the_base_no_more_than_it_must(
    tmp_path: Path,
    unbroken: Path,
    kill_job: Callable[[Path, str], None],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    read = job.load(unbroken)
    folder = job.create(tmp_path / "job", read.config, read.examples).folder
    kill_job(folder, KILLS[moment])
    begun = "between" in moment
    kept = (folder / "checkpoints" / "baseline.jsonl").read_text().splitlines()[1:]
    assert len(kept) == (4 if begun else 2)

    asked: list[bool] = []
    compared = dispatch.Dpo.compared

    def spy(self: Any, model: Any, inputs: Any, bare: Any) -> torch.Tensor:
        asked.append(not torch.is_grad_enabled())
        return compared(self, model, inputs, bare)

    monkeypatch.setattr(dispatch.Dpo, "compared", spy)
    outcome = job.run(folder)
    assert sum(asked) == (0 if begun else 2)
    assert outcome.report.resumed == int(begun)
    assert (folder / WEIGHTS).read_bytes() == (unbroken / WEIGHTS).read_bytes()
    whole = job.result(unbroken)
    assert whole is not None
    assert (outcome.report.losses, outcome.report.measures) == (whole.report.losses, whole.report.measures)
    assert not (folder / "checkpoints").exists()


def test_what_is_kept_of_the_base_is_what_the_base_says(tmp_path: Path, quick: job.JobConfig, tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    made = job.create(tmp_path / "job", quick.model_copy(update={"objective": "dpo"}), pairs())

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(tmp_path / "job", progress=stop)
    lines = (tmp_path / "job" / "checkpoints" / "baseline.jsonl").read_text().splitlines()[1:]
    kept = [row for _, *row in sorted(map(json.loads, lines))]
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    for pair, row in zip(made.examples, kept, strict=True):
        assert isinstance(pair, Pair)
        with torch.no_grad():
            assert row == pytest.approx(
                [float(example_logprobs(model, collate([s]))) for s in (pair.better, pair.worse)]
            )


FULL = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


def cramped(monkeypatch: pytest.MonkeyPatch, room: int, error: str = FULL) -> list[int]:
    """The base runs out of memory with more than `room` pairs at once; returns how many went through in each pass."""
    sizes: list[int] = []
    compared = dispatch.Dpo.compared

    def limited(self: Any, model: Any, inputs: Any, bare: Any) -> torch.Tensor:
        if torch.is_grad_enabled():
            return compared(self, model, inputs, bare)
        if len(inputs["weights"]) > room:
            raise RuntimeError(error)
        sizes.append(len(inputs["weights"]))
        return compared(self, model, inputs, bare)

    monkeypatch.setattr(dispatch.Dpo, "compared", limited)
    return sizes


def test_where_memory_runs_out_the_base_is_asked_in_parts(
    tmp_path: Path, quick: job.JobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick.model_copy(update={"objective": "dpo", "batch_size": 4})
    kept: list[list[list[float]]] = []

    def stop(folder: Path) -> Callable[..., None]:
        def told(*_: object) -> None:
            lines = (folder / "checkpoints" / "baseline.jsonl").read_text().splitlines()[1:]
            kept.append(sorted(map(json.loads, lines)))
            raise KeyboardInterrupt

        return told

    for name in ("roomy", "cramped"):
        sizes = cramped(monkeypatch, 1) if name == "cramped" else []
        job.create(tmp_path / name, settings, pairs(6))
        with pytest.raises(KeyboardInterrupt):
            job.run(tmp_path / name, progress=stop(tmp_path / name))
    assert sizes == [1] * 6, "once it has been found, the size stays"
    assert [row for line in kept[1] for row in line] == pytest.approx([row for line in kept[0] for row in line])


def test_a_single_record_that_is_too_much_for_the_base_ends_the_job_in_one_line(
    tmp_path: Path, quick: job.JobConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.create(tmp_path, quick.model_copy(update={"objective": "dpo"}), pairs())
    with monkeypatch.context() as patch, pytest.raises(OutOfMemory, match="with a single example at once"):
        cramped(patch, 0)
        job.run(tmp_path)
    cramped(monkeypatch, 0, "shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        job.run(tmp_path)


def test_only_sft_can_hold_an_adapter_to_its_base(tmp_path: Path, config: job.JobConfig) -> None:
    settings = config.model_copy(update={"objective": "minor_sft"})
    with pytest.raises(
        BadExample, match="example 2 is of the kind Regularised; the objective minor_sft learns from Example;"
    ):
        job.create(tmp_path / "job", settings, [single(0, [1]), *held(1)])


def test_records_of_another_objective_are_no_job(tmp_path: Path, config: job.JobConfig) -> None:
    job.create(tmp_path, config.model_copy(update={"objective": "dpo"}), pairs())
    settings = json.loads((tmp_path / "job.json").read_text())
    for change in ({"objective": "kto"}, {"objective": "ppo"}, {"beta": 0}, {"nll_weight": -1}):
        (tmp_path / "job.json").write_text(json.dumps(settings | change))
        with pytest.raises(NotAJob) as raised:
            job.load(tmp_path)
        assert "\n" not in str(raised.value)


def test_kto_pairs_every_prompt_with_the_answer_to_another() -> None:
    tasks = ["a", "b", "a", "c", "a", "b"]
    partners = rotated(tasks)
    assert sorted(partners) == list(range(6))
    assert all(tasks[index] != tasks[partner] for index, partner in enumerate(partners))
    assert all(index != partner for index, partner in enumerate(rotated(["a", "a", "a"])))


def test_a_mismatch_is_no_longer_than_the_examples_it_is_made_of() -> None:
    short, long = single(0, [7, 8, 9, 10, 11]), single(6, [1, 2])
    crossed = mismatch(long, short)
    assert crossed.token_ids == [*long.token_ids[:14], 7, 8]
    assert crossed.weights == [0.0] * 14 + [1.0, 1.0]
    assert mismatch(short, long).token_ids == [*short.token_ids[:8], 1, 2]


def test_the_two_kinds_of_kto_have_weights_of_their_own(config: job.JobConfig) -> None:
    settings = config.model_copy(update={"objective": "kto", "desirable_weight": 2.0, "undesirable_weight": 3.0})
    objective = dispatch.objective_of(settings)
    records = RECORDS["kto"]()
    items = [item._replace(base=(0.0, 0.0)) for item in objective.prepare(records)]
    inputs = objective.collate(items)
    assert inputs["weights"].tolist() == [3.0, 2.0, 3.0, 2.0]
    assert inputs["desirable"].tolist() == [False, True, False, True]


def test_supervised_fine_tuning_has_no_use_for_the_base(config: job.JobConfig) -> None:
    objective = dispatch.objective_of(config)
    assert not isinstance(objective, dispatch.Comparing)
    assert "base" not in objective.collate([Item(single(0, [1]))])
