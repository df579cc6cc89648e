"""How an exported adapter is used elsewhere: the script that plays one game, and what its card says of loading it."""

from __future__ import annotations

import shlex

from trainers.adapters.prompt_format import PromptFormat
from trainers.training.canary import Canary

BASE = "base"
"""The folder of the base, where it lies beside the adapter's files."""

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Those that vLLM takes as the largest one."""

THINK = """\
    begun = ids + tokens(form["thought"][:1])
    said = model.generate(torch.tensor([begun]), max_new_tokens=@MOST@, do_sample=False)[0, len(begun) :]
    thought = tokenizer.decode(said, skip_special_tokens=True).partition("\\n")[0]
    ids += tokens(@THOUGHT@)
"""

MOST = 32
"""Tokens of a thought, where the lab has no number for them."""

TRANSCRIPT = {
    "@TASK@": 'prompts.head(info["goal"])',
    "@SEEN@": "prompts.turn(observation)",
    "@THOUGHT@": "prompts.thought(thought)",
    "@SAID@": "prompts.action(command)",
}
CHAT = {
    "@TASK@": 'prompts.task(info["goal"])',
    "@SEEN@": "prompts.seen(observation, commands)",
    "@THOUGHT@": 'prompts.answer("", thought, prompting=prompts.Prompting.named(form["format"]))[:-1]',
    "@SAID@": 'prompts.answer(command, prompting=prompts.Prompting.named(form["format"]))[-1]',
}
"""What the script puts where a piece of the format has a name: the texts that it was trained on."""

PLAY = """\
# Plays one game: python play.py [GAME [SEED]]. Needs torch, transformers, peft, and agentlab for games and their texts.
import json
import sys
from pathlib import Path

import torch
from environments import Task, make
from memory import prompts
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

here = Path(__file__).resolve().parent
form, tokenizer = json.loads((here / "prompt.json").read_text("utf-8")), AutoTokenizer.from_pretrained(here)
base = here / "base" if (here / "base").is_dir() else PeftConfig.from_pretrained(here).base_model_name_or_path
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), here).eval()
plain = {"add_special_tokens": False, "split_special_tokens": True}


def tokens(pieces, text=""):  # text stands in place of the piece that has names in it
    texts = (text if isinstance(it, str) and "{" in it else it for it in pieces)
    cut = (tokenizer(it, **plain).input_ids if isinstance(it, str) else it for it in texts)
    return [token for piece in cut for token in piece]


@torch.inference_mode()
def logprob(ids, ending):
    logits = model(torch.tensor([ids + ending])).logits[0, len(ids) - 1 : -1].float()
    return float(logits.log_softmax(-1).gather(1, torch.tensor([ending]).T).sum())


game, seed = [*sys.argv[1:], *["@GAME@", "0"][len(sys.argv) - 1 :]][:2]
env = make(game)
observation, info = env.start(Task(env=game, split="test", seed=int(seed)))
ids, turn, over = tokens(form["head"], @TASK@), "first", False
while not over:
    commands = info["admissible_commands"]
    ids += tokens(form[turn], @SEEN@)
@THINK@    endings = {command: tokens(form["command"], @SAID@) for command in commands}
    command = max(commands, key=lambda command: logprob(ids, endings[command]))
    print(f"{observation}\\n> {command}")
    observation, _, ended, cut_off, info = env.step(command)
    ids, turn, over = ids + endings[command], "later", ended or cut_off
print(f"{observation}\\n{'Won' if info['won'] else 'Not won'}, score {info['score']:.2f}.")
env.close()
"""

CHECK = """\
import json
import torch
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained(".", dtype=torch.float32).eval()
canary = json.load(open("canary.json"))
ids = torch.tensor([canary["token_ids"]])
places = torch.tensor([at for start, end in canary["spans"] for at in range(start, end)])
with torch.inference_mode():
    logprobs = model(ids).logits[0, places - 1].log_softmax(-1)
found = float(logprobs.gather(1, ids[0, places, None]).sum())
assert abs(found - canary["adapter_logprob"]) <= @TOLERANCE@, f"{found:.2f}: the adapter is off"
"""


def play(game: str, form: PromptFormat, think: int = 0) -> str:
    """The script that plays one game, by default of `game`; it thinks for at most `think` tokens (0: for `MOST`)."""
    script = PLAY.replace("@THINK@", THINK if form.thought else "")
    texts = CHAT if form.format.startswith("chat") else TRANSCRIPT
    for name, code in {"@GAME@": game, "@MOST@": str(think or MOST), **texts}.items():
        script = script.replace(name, code)
    return script


def serving(id: str, base: str, rank: int) -> str:
    """The command that serves an adapter of this rank with vLLM, called in its folder."""
    largest = next((one for one in RANKS if one >= rank), RANKS[-1])
    options = ["--enable-lora", "--max-lora-rank", str(largest), "--lora-modules", f"{id}=."]
    return shlex.join(["vllm", "serve", base, *options])


MOVED = """

`adapter_config.json` names the place of `base` where it was exported. Once the folder lies elsewhere, write the new
place there, or load `PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("base"), ".")`."""


def section(id: str, base: str, rank: int, canary: Canary, form: PromptFormat, *, with_base: bool) -> str:
    """What the card of an exported adapter says of its use, as Markdown. `base` is what vLLM is to load."""
    check = CHECK.replace("@TOLERANCE@", f"{canary.tolerance:.2f}")
    return (
        "## How to load\n\nThis loads it, in this folder, and checks by the canary that it is on:\n\n"
        f"```python\n{check}```{MOVED if with_base else ''}\n\n"
        f"## How to serve\n\nWith vLLM, called in this folder:\n\n```\n{serving(id, base, rank)}\n```\n\n"
        f"Requests name the model `{id}`. Send them token ids, made as the next section says.\n\n"
        f"## Prompt format\n\n{form.words}\n\n"
        "`python play.py` plays one game in that way, `python play.py GAME SEED` another one."
    )
