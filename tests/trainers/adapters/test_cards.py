"""An adapter's card is what a model hub can read, says what is known, and stays true while its status changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from memory.records import Episode
from memory.store.database import Database
from trainers import job
from trainers.adapters import cards
from trainers.adapters.record import AdapterRecord
from trainers.adapters.registry import AdapterRegistry
from trainers.gate.gate import decide
from trainers.lineage import Merge

TASKS = [f"x/{env}:dev:{n}" for env in ("one", "two") for n in range(15)]
PASSED = decide(dict.fromkeys(TASKS, True), dict.fromkeys(TASKS, False))
FAILED = decide(dict.fromkeys(TASKS, False), dict.fromkeys(TASKS, False))


@pytest.fixture
def registry(tmp_path: Path, make_episode: Callable[..., Episode]) -> Iterator[AdapterRegistry]:
    database = Database(tmp_path / "lab.db")
    for number in range(15):
        database.episodes.put(make_episode(f"e{number}", env="x/one" if number < 10 else "x/two"))
    yield AdapterRegistry(database, tmp_path)
    database.close()


@pytest.fixture
def record(registry: AdapterRegistry, trained: Path) -> AdapterRecord:
    """The adapter of 20 episodes, of which the lab has 15, as it was registered."""
    return registry.register(trained)


def read(registry: AdapterRegistry, record: AdapterRecord) -> ModelCard:
    return ModelCard.load(registry.folder / record.path / "README.md")


def test_a_new_adapter_has_a_card_in_the_form_of_a_hub(registry: AdapterRegistry, record: AdapterRecord) -> None:
    card = read(registry, record)
    assert card.data.library_name == "peft" and card.data.pipeline_tag == "text-generation"
    assert card.data.tags == ["lora", "transformers", "text-games", "agentlab"]
    assert card.data.base_model is None, "a hub does not know a model of this machine"
    assert f"# {record.id}" in card.text and "**candidate**" in card.text
    assert "has not played the held-out games" in card.text


def test_it_says_what_it_was_trained_on_and_how(registry: AdapterRegistry, record: AdapterRecord) -> None:
    text = read(registry, record).text
    for row in (
        "| `x/one` | 10 |",
        "| `x/two` | 5 |",
        "| no longer in the lab | 5 |",
        "| all | 20 |",
        "| objective | sft |",
        "| LoRA rank | 16 |",
        "| learning rate | 0.001 |",
        "| steps | 10 |",
        "| round | round-1 |",
        "| after | the base model |",
        f"| job | {record.job} |",
        record.fingerprint,
        record.weights,
    ):
        assert row in text
    assert 'PeftModel.from_pretrained(base, ".")' in text


def test_it_has_the_canarys_numbers(registry: AdapterRegistry, record: AdapterRecord, trained: Path) -> None:
    outcome = job.result(trained)
    assert outcome is not None
    text = read(registry, record).text
    assert f"{outcome.canary.adapter_logprob:.2f} ± {outcome.canary.tolerance:.2f}" in text
    assert f"gives {outcome.canary.base_logprob:.2f}" in text


def test_promotion_rejection_and_rollback_are_told(registry: AdapterRegistry, record: AdapterRecord) -> None:
    registry.reject(record.id, FAILED)
    assert "**rejected**" in read(registry, record).text and "Not passed: not better" in read(registry, record).text
    registry.promote(record.id, PASSED)
    text = read(registry, record).text
    assert "**promoted**" in text and "Passed: better: won 30 of 30" in text
    assert "| x/two | 15 | 1.00 [0.80, 1.00] | 0.00 [0.00, 0.20] | +1.00 [+0.71, +1.00] | < 0.0001 |" in text
    assert "| all | 30 | 1.00 [0.89, 1.00] |" in text
    registry.rollback()
    assert "**retired**. It served once, and was taken out of use." in read(registry, record).text


def test_it_says_whether_an_adapter_that_was_put_away_ever_served(
    registry: AdapterRegistry, record: AdapterRecord
) -> None:
    """The same weights can come out of a second training, after they served."""
    registry.retire(record.id)
    assert "**retired**. It never served, and was put away." in read(registry, record).text
    registry.reject(record.id, FAILED)
    assert "**rejected**. It did not pass its gate, and never served." in read(registry, record).text
    registry.promote(record.id, PASSED)
    registry.rollback()
    registry.reject(record.id, FAILED)
    assert "**rejected**. It served once, but did not pass its gate after that." in read(registry, record).text


def test_a_forced_promotion_is_told(registry: AdapterRegistry, record: AdapterRecord) -> None:
    registry.promote(record.id, force=True)
    assert "by a person's decision" in read(registry, record).text


def test_a_lost_card_comes_back(registry: AdapterRegistry, record: AdapterRecord, trained: Path) -> None:
    place = registry.folder / record.path / "README.md"
    before = place.read_text()
    place.unlink()
    registry.register(trained)
    assert place.read_text() == before
    assert not place.with_name("README.md.partial").exists()


def test_the_card_changes_nothing_about_the_adapter(registry: AdapterRegistry, record: AdapterRecord) -> None:
    folder = registry.folder_of(record.id, record.fingerprint)
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "canary.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("base", "id", "license"),
    [
        ("SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"),
        ("org/some-model", "org/some-model", None),
        ("/home/me/models/mine", None, None),
        ("my model: [x]", None, None),
    ],
)
def test_the_base_is_named_as_a_hub_knows_it_and_never_by_a_path(
    registry: AdapterRegistry, record: AdapterRecord, base: str, id: str | None, license: str | None
) -> None:
    registry.records.put(record.model_copy(update={"base": base}))
    registry.write_card(record.id)
    card = read(registry, record)
    assert (card.data.base_model, card.data.license) == (id, license)
    assert (f"base_model:adapter:{id}" in (card.data.tags or [])) == (id is not None)
    assert "/home" not in card.content and str(registry.folder) not in card.content


def test_a_merged_adapter_says_what_it_was_merged_from(registry: AdapterRegistry, record: AdapterRecord) -> None:
    merge = Merge(method="cat", weights={"adapter-a": 1.0, "adapter-b": 0.5}, rank=32, error=0.0, truncation=0.0)
    merged = record.model_copy(update={"lineage": record.lineage.model_copy(update={"merge": merge})})
    text = cards.card(registry.database, merged, registry.folder / record.path)
    assert "AgentLab merged it (cat) from adapters trained on" in text
    assert "| merged from | 1 × adapter-a + 0.5 × adapter-b (cat) |" in text and "| after |" not in text


@pytest.mark.parametrize(
    ("held", "merged", "sentence"),
    [
        (["h1"], False, "On 1 episode of other games it was kept to what the base does there (KL regularisation)."),
        (["h1", "h2"], False, "On 2 episodes of other games it was kept to"),
        (["h1", "h2"], True, "games at least one of the adapters that it was merged from was kept to what the base"),
    ],
)
def test_it_says_on_how_many_episodes_it_was_regularised_to_its_base(
    registry: AdapterRegistry, record: AdapterRecord, held: list[str], merged: bool, sentence: str
) -> None:
    folder = registry.folder / record.path
    assert "was kept to" not in cards.card(registry.database, record, folder)
    merge = Merge(method="cat", weights={"adapter-a": 1.0, "adapter-b": 0.5}, rank=32, error=0.0, truncation=0.0)
    lineage = record.lineage.model_copy(update={"kl_episodes": held, "merge": merge if merged else None})
    assert sentence in cards.card(registry.database, record.model_copy(update={"lineage": lineage}), folder)


def test_a_card_without_a_known_job_or_canary_says_less(registry: AdapterRegistry, tmp_path: Path) -> None:
    record = AdapterRecord(id="adapter-old", base="tiny", fingerprint="f" * 64, path="adapters/old")
    text = cards.card(registry.database, record, tmp_path)
    assert "No episodes are recorded." in text
    assert "## Training\n" not in text and "## Canary" not in text and "| made |" in text
