from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentlab.cli import app
from agentlab.lab import Lab
from agentlab.workspace.config import LabConfig
from environments import Task, make
from memory.records import Episode, Recall, Reflection
from trainers.adapters.record import AdapterRecord
from trainers.gate.gate import decide
from trainers.job import Lineage
from trainers.training.canary import Canary

RUNNER = CliRunner()
TASKS = [f"toy/doors:dev:{seed}" for seed in range(30)]
SETTINGS = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}
WON, LOST = dict.fromkeys(TASKS, True), dict.fromkeys(TASKS, False)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A lab with an adapter that passed its gate, one that did not, and one that was not evaluated."""
    folder = tmp_path / "lab"
    gates = {"adapter-aaa": decide(WON, LOST), "adapter-bbb": decide(LOST, LOST), "adapter-ccc": None}
    with Lab.open(folder, create=True, config=LabConfig(embedder="hashing")) as opened:
        for id, gate in gates.items():
            place = folder / "adapters" / id
            place.mkdir(parents=True)
            (place / "adapter_config.json").write_text(json.dumps(SETTINGS))
            header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
            (place / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
            record = AdapterRecord(
                id=id,
                base="tiny",
                fingerprint="f" * 64,
                path=f"adapters/{id}",
                lineage=Lineage(round="round-1", episodes=[f"ep-{number}" for number in range(9)]),
                gate=gate,
            )
            opened.adapters.records.put(record)
    return folder


def adapters(lab: Path, *arguments: str) -> Result:
    return RUNNER.invoke(app, ["adapters", *arguments, "--lab", str(lab)])


def listed(lab: Path) -> dict[str, tuple[str, bool]]:
    rows = json.loads(adapters(lab, "list", "--json").stdout)
    return {row["id"]: (row["status"], row["serving"]) for row in rows}


def test_adapters_are_listed_with_their_gates(lab: Path) -> None:
    assert listed(lab) == {f"adapter-{name}": ("candidate", False) for name in ("aaa", "bbb", "ccc")}
    shown = adapters(lab, "list").stdout
    assert "won 30 of 30 against 0" in shown
    assert "was not evaluated at a gate" in shown


def test_a_lab_without_adapters_says_how_to_make_one(tmp_path: Path) -> None:
    with Lab.open(tmp_path / "lab", create=True):
        pass
    assert "agentlab distill" in adapters(tmp_path / "lab", "list").stdout


def weigh(folder: Path, value: float) -> None:
    """Give an adapter real weights: one module, whose update is value · [1, 2]."""
    import torch
    from safetensors.torch import save_file

    name = "base_model.model.l.0.q_proj.lora_"
    save_file(
        {f"{name}A.weight": torch.tensor([[1.0, 2.0]]), f"{name}B.weight": torch.tensor([[value]])},
        folder / "adapter_model.safetensors",
    )


def know_more(lab: Path) -> None:
    """Give the first two adapters what a job and play leave behind."""
    with Lab.open(lab) as opened:
        for number in range(9):
            env = "toy/doors" if number < 6 else "toy/other"
            episode = Episode(id=f"ep-{number}", run="r", env=env, split="train", seed=number, status="won")
            opened.database.episodes.put(episode)
        for number in range(7):
            reflection = Reflection(id=f"rf-{number}", kind="k", env="toy/doors", task="t", run="r", text=f"{number}")
            opened.database.reflections.put(reflection)
            recalled = Recall(episode="ep-0", reflection=f"rf-{number}", channel="advice", rank=0, query="q", score=1.0)
            opened.database.recalls.put([recalled])
        for number, run in enumerate(["eval-test", *(f"run-{n}" for n in range(6))]):
            played = {"arm": "adapter", "split": "test", "seed": 1, "status": "won", "adapter": "adapter-aaa"}
            episode = Episode.model_validate({"id": f"p-{number}", "run": run, "env": "toy/doors", **played})
            opened.database.episodes.put(episode)
        opened.database.evaluations.put("eval-test", {})
        for id, rate in (("adapter-aaa", 1e-3), ("adapter-bbb", 5e-4)):
            folder = lab / "adapters" / id
            weigh(folder, 1.0 if id == "adapter-aaa" else -2.0)
            canary = Canary(token_ids=[1, 2, 3], spans=[(1, 3)], base_logprob=-9.0, adapter_logprob=-1.0, base="f" * 64)
            canary.save(folder / "canary.json")
            training = {
                "examples": 9, "steps": 12, "tokens": 34567, "chosen_tokens": 890, "seconds": 61.2, "device": "cuda",
                "dtype": "bfloat16", "resumed": 1, "first_loss": 2.5, "last_loss": 0.25,
                "versions": {"torch": "2.13.0"},
            }  # fmt: skip
            record = opened.adapters.get(id)
            known = {"settings": {"objective": "sft", "rank": 16, "learning_rate": rate}, "training": training}
            if id == "adapter-bbb":
                known["lineage"] = Lineage(round="round-2", episodes=["ep-7", "ep-8", "ep-9"])
            opened.adapters.records.put(record.model_copy(update=known))


def test_one_adapter_is_shown_on_a_screen(lab: Path) -> None:
    know_more(lab)
    assert adapters(lab, "promote", "aaa").exit_code == 0
    shown = adapters(lab, "show", "aaa").stdout
    for part in (
        "adapter-aaa  promoted, serves now",
        "tiny, weights ffffffffffff",
        "in round-1",
        "none; the base served",
        "the base on 20",
        "9: toy/doors 6, toy/other 3",
        "7 recalled in these (in so many): rf-0 (1), rf-1 (1), rf-2 (1)",
        "(--json has all)",
        "torch 2.13.0",
        "rank 16, learning_rate 0.001",
        "loss 2.500 → 0.250",
        "resumed 1×",
        "-1.0 ± 1.7 nats over 2 tokens, the base -9.0",
        "passed: better: won 30 of 30",
        "doors 30 1.00 0.00 +1.00 [+0.84, +1.00] < 0.0001",
        "all 30 1.00 0.00 +1.00",
        "eval-test evaluation adapter",
        "… and 2 more",
    ):
        assert " ".join(part.split()) in " ".join(shown.split()), part
    assert "forced" not in shown
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 45


def test_an_adapter_of_which_little_is_known_is_shown_too(lab: Path) -> None:
    shown = adapters(lab, "show", "ccc").stdout
    assert "was not evaluated at a gate" in shown and "no longer here 9" in shown
    assert "canary" in shown and "missing" in shown


def test_nothing_is_shortened_as_json(lab: Path) -> None:
    know_more(lab)
    found = json.loads(adapters(lab, "show", "aaa", "--json").stdout)
    assert found["id"] == "adapter-aaa" and found["serving"] is False
    assert len(found["lineage"]["episodes"]) == 9
    assert found["episodes"]["toy/other"] == ["ep-6", "ep-7", "ep-8"]
    assert list(found["reflections"]) == [f"rf-{number}" for number in range(7)]
    assert len(found["uses"]) == 7 and found["uses"][0]["result"]["n"] == 1
    assert found["canary"]["adapter_logprob"] == -1.0


def test_what_an_adapter_replaced_and_what_came_after_it(lab: Path) -> None:
    adapters(lab, "promote", "aaa")
    adapters(lab, "promote", "bbb", "--force")
    assert "replaced by adapter-bbb on" in " ".join(adapters(lab, "show", "aaa").stdout.split())
    adapters(lab, "rollback")
    shown = " ".join(adapters(lab, "show", "bbb").stdout.split())
    assert "adapter-aaa on" in shown and "rolled back to adapter-aaa on" in shown
    assert "promoted without a passed gate" in shown


def test_what_was_taught_by_questions_alone_is_not_called_recalled(lab: Path) -> None:
    know_more(lab)
    with Lab.open(lab) as opened:
        record = opened.adapters.get("adapter-aaa")
        taught = record.lineage.model_copy(update={"reflections": ["rf-quoted"]})
        opened.adapters.records.put(record.model_copy(update={"lineage": taught}))
        opened.database.reflections.put(
            Reflection(id="rf-quoted", kind="k", env="toy/doors", task="t", run="r", text="Quoted.")
        )
    shown = " ".join(adapters(lab, "show", "aaa").stdout.split())
    assert "7 recalled in these" in shown and "1 taught by questions: rf-quoted" in shown


def test_two_adapters_are_shown_beside_each_other(lab: Path) -> None:
    know_more(lab)
    result = adapters(lab, "diff", "aaa", "bbb")
    shown = " ".join(result.stdout.split())
    for part in (
        "A adapter-aaa candidate, round-1",
        "B adapter-bbb candidate, round-2",
        "learning rate 0.001 0.0005",
        "only in A 7 toy/doors 6, toy/other 1",
        "only in B 1 unknown 1",
        "in both 2 toy/other 2",
        "Gate of A passed: better",
        "Gate of B not passed: not better",
        "q_proj 1 2.24 4.47 3.000 -1.000",
        "all 1 2.24 4.47 3.000 -1.000",
    ):
        assert part in shown, part
    assert "rank" not in shown, "what is the same is not said"
    assert max(map(len, result.stdout.splitlines())) <= 80
    found = json.loads(adapters(lab, "diff", "aaa", "bbb", "--json").stdout)
    assert found["settings"] == {"learning_rate": [1e-3, 5e-4]}
    assert found["both"] == {"toy/other": ["ep-7", "ep-8"]} and found["weights"][-1]["cosine"] == pytest.approx(-1)


def test_where_an_adapter_was_held_to_the_base_is_shown(lab: Path) -> None:
    know_more(lab)
    for command in (("show", "bbb"), ("diff", "aaa", "bbb")):
        assert "KL to the base" not in adapters(lab, *command).stdout
    with Lab.open(lab) as opened:
        record = opened.adapters.get("bbb")
        lineage = record.lineage.model_copy(update={"kl_episodes": ["ep-0", "ep-6", "lost"]})
        opened.adapters.records.put(record.model_copy(update={"lineage": lineage}))
    shown = " ".join(adapters(lab, "show", "bbb").stdout.split())
    assert "episodes 3: toy/other 2, no longer here 1" in shown
    assert "KL to the base 3: toy/doors 1, toy/other 1, no longer here 1" in shown
    shown = " ".join(adapters(lab, "diff", "aaa", "bbb").stdout.split())
    assert "only in B 3 toy/doors 1, toy/other 1, unknown 1" in shown[shown.index("KL to the base") :]


def test_an_adapter_differs_from_itself_in_nothing(lab: Path) -> None:
    know_more(lab)
    shown = " ".join(adapters(lab, "diff", "aaa", "aaa").stdout.split())
    assert "Made with the same settings." in shown and "in both 9" in shown and "0.000 1.000" in shown


def test_promotion_and_rollback_change_what_serves(lab: Path) -> None:
    result = adapters(lab, "promote", "aaa")
    assert result.exit_code == 0, result.output
    assert listed(lab)["adapter-aaa"] == ("promoted", True)
    assert adapters(lab, "rollback").stdout == "The base model serves now.\n"
    assert listed(lab)["adapter-aaa"] == ("retired", False)


@pytest.mark.parametrize("adapter", ["bbb", "ccc"])
def test_an_adapter_that_did_not_pass_is_refused_unless_forced(lab: Path, adapter: str) -> None:
    result = adapters(lab, "promote", adapter)
    assert result.exit_code == 2
    assert "may not serve" in result.stderr
    assert adapters(lab, "promote", adapter, "--force").exit_code == 0
    assert listed(lab)[f"adapter-{adapter}"] == ("promoted", True)
    assert json.loads(adapters(lab, "show", adapter, "--json").stdout)["forced"] is True


def test_an_adapter_whose_weights_are_gone_is_found_by_the_doctor(
    lab: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AGENTLAB_CACHE", str(tmp_path / "cache"))
    adapters(lab, "promote", "aaa")
    (lab / "adapters" / "adapter-aaa" / "adapter_model.safetensors").unlink()
    (lab / "adapters" / "adapter-bbb" / "adapter_model.safetensors").write_bytes(b"short")
    result = RUNNER.invoke(app, ["doctor", "--quick", "--json", "--lab", str(lab)])
    found = {finding["check"]: finding for finding in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert found["adapter-aaa"]["verdict"] == "problem"
    assert found["adapter-bbb"]["verdict"] == "warning"
    assert "adapter-ccc" not in found


@pytest.mark.parametrize(
    ("arguments", "part"), [(["show", "adapter-aab"], "did you mean"), (["rollback"], "nothing served")]
)
def test_bad_input_is_one_line(lab: Path, arguments: list[str], part: str) -> None:
    result = adapters(lab, *arguments)
    assert result.exit_code == 2
    assert part in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_adapter_is_exported_with_what_others_need(
    tmp_path: Path, open_at: Callable[..., Lab], add_skill: Callable[..., str]
) -> None:
    lab = tmp_path / "lab"
    with open_at(lab) as opened:
        skill = add_skill(opened)
    out = tmp_path / "my out"
    done = adapters(lab, "export", skill[:14], str(out))
    assert done.exit_code == 0, done.output
    assert f"`python '{out / 'play.py'}'`" in done.stdout, "as a shell takes it"
    assert "vllm serve" in done.stdout and "--with-base" in done.stderr, "its base is a folder of this machine"
    files = {"adapter_model.safetensors", "canary.json", "play.py", "prompt.json", "README.md", "tokenizer.json"}
    assert files <= {path.name for path in out.iterdir()}
    again = adapters(lab, "export", skill, str(out), "--with-base")
    assert again.exit_code == 2 and "nothing is overwritten" in again.stderr
    assert not (out / "base").exists()


def test_what_was_exported_plays_as_it_does_here(
    tmp_path: Path,
    open_at: Callable[..., Lab],
    add_skill: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lab = tmp_path / "lab"
    with open_at(lab) as opened:
        skill = add_skill(opened)
        model, env = opened.model(skill), make("toy/doors")
        observation, info = env.start(Task(env="toy/doors", split="test", seed=4))
        talk, played, over = model.conversation(info["goal"]), [], False
        while not over:
            talk.observe(observation)
            commands = info["admissible_commands"] or []
            scores = model.score(talk, commands).logprobs
            played.append(commands[scores.index(max(scores))])
            talk.act(played[-1])
            observation, _, ended, cut_off, info = env.step(played[-1])
            over = ended or cut_off
    assert adapters(lab, "export", skill, str(tmp_path / "out")).exit_code == 0
    monkeypatch.setattr(sys, "argv", ["play.py", "toy/doors", "4"])
    capsys.readouterr()
    runpy.run_path(str(tmp_path / "out" / "play.py"), run_name="__main__")
    assert re.findall("^> (.*)$", capsys.readouterr().out, re.M) == played
