"""`agentlab doctor`: is everything here that the tool needs, and is it sound?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agentlab.bars import progress
from agentlab.cli import output
from agentlab.cli.options import DEFAULT_LAB, Json, LabFolder, opened
from agentlab.cli.output import Column

if TYPE_CHECKING:
    from agentlab.lab import Lab

Verdict = Literal["ok", "warning", "problem"]
GIB = 2**30
EXTRAS = ("games", "ui")  # those that something here makes use of
# Installed by itself, without its dependencies; so it stands in no list.
TEXTWORLD = 'textworld==1.7.0; extra == "games"'
ENOUGH_ROOM, TOO_LITTLE_ROOM = 2 * GIB, GIB // 4


@dataclass(frozen=True)
class Finding:
    """What one check found. `remedy` says what to do where it is not ok."""

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""


def doctor(
    env: Annotated[
        list[str] | None,
        typer.Option("--env", help="Check the contract of these environments only; repeat it for more."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out playing the environments.")] = False,
    lab: LabFolder = DEFAULT_LAB,
    json: Json = False,
) -> None:
    """Check Python, packages, Java, disk, models, the environments' contract, and the lab.

    Ends with 1 if there is a problem; warnings are about parts that one can do without.
    """
    parts: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("packages", packages),
        ("machine", machine),
        ("java", java),
        ("disk", lambda: disk(lab)),
        ("models", models),
        ("servers", servers),
        ("apis", apis),
        ("lab", lambda: health(lab)),
    ]
    if not quick:
        parts += [(name, lambda name=name: contract(name)) for name in _environments(env)]  # type: ignore[misc]
    findings: list[Finding] = []
    with progress() as bars:
        bars.start("Checking", len(parts))
        for name, part in parts:
            findings += guarded(name, part)
            bars.advance("Checking", note=name)
        bars.finish("Checking")
    columns = [
        Column("check"),
        Column("verdict", head=True),
        Column("detail", wide=True),
        Column("remedy", "what to do", wide=True),
    ]
    output.listing([asdict(finding) for finding in findings], columns, as_data=json, empty="")
    problems = sum(finding.verdict == "problem" for finding in findings)
    if not json:
        warnings = sum(finding.verdict == "warning" for finding in findings)
        output.say("")
        output.say(f"{len(findings)} checks, problems: {problems}, warnings: {warnings}")
    if problems:
        raise typer.Exit(1)


def guarded(name: str, part: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """The findings of one part; an error in it is a finding too, so that the other parts are still looked at."""
    findings = []
    try:
        for finding in part():
            findings.append(finding)
    except Exception as error:
        findings.append(_failed(name, error))
    return findings


def _failed(name: str, error: Exception) -> Finding:
    """An error as a finding: our own say what is wrong and, behind a semicolon, what to do."""
    from agentlab.cli.boundary import expected

    if not expected(error):
        return Finding(name, "problem", output.one_line(f"{type(error).__name__}: {error}"))
    what, _, remedy = output.one_line(str(error)).partition("; ")
    return Finding(name, "problem", what, remedy.rstrip("."))


def packages() -> Iterator[Finding]:
    """Python, and what the installed distribution says that it needs."""
    from importlib import metadata

    version = ".".join(str(part) for part in sys.version_info[:3])
    recent = sys.version_info >= (3, 11)
    yield Finding("python", "ok" if recent else "problem", version, "" if recent else "install Python 3.11 or newer")
    try:
        needed = metadata.requires("agentlab") or []
    except metadata.PackageNotFoundError:
        yield Finding("agentlab", "warning", "runs from its source folder, not installed", "pip install -e .")
        return
    yield Finding("agentlab", "ok", metadata.version("agentlab"))
    for line in [*needed, TEXTWORLD]:
        yield from _requirement(line)


def _requirement(line: str) -> Iterator[Finding]:
    """Whether a requirement holds. Those of extras are optional; those for development do not matter here."""
    from importlib import metadata

    from packaging.requirements import Requirement

    wanted = Requirement(line)
    required = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
    if not required and not any(wanted.marker and wanted.marker.evaluate({"extra": name}) for name in EXTRAS):
        return
    lacking: Verdict = "problem" if required else "warning"
    alone = "--no-deps " if line == TEXTWORLD else ""
    remedy = f"pip install {alone}'{wanted.name}{wanted.specifier}'"
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        yield Finding(wanted.name, lacking, "not installed" if required else "not installed (optional)", remedy)
        return
    if wanted.specifier.contains(version, prereleases=True):
        yield Finding(wanted.name, "ok", version)
    else:
        yield Finding(wanted.name, lacking, f"{version}, but {wanted.specifier} is needed", remedy)


def machine() -> Iterator[Finding]:
    """What the model runs on."""
    import torch

    if torch.cuda.is_available():
        yield Finding("accelerator", "ok", torch.cuda.get_device_name(0))
    else:
        yield Finding("accelerator", "ok", f"none; {torch.get_num_threads()} CPU threads")


def java() -> Iterator[Finding]:
    """The Java that TextWorldExpress runs in."""
    from environments.errors import EnvironmentsError
    from environments.java import find_java

    try:
        yield Finding("java", "ok", str(find_java()))
    except EnvironmentsError as error:
        yield Finding("java", "warning", str(error))


def disk(lab: Path) -> Iterator[Finding]:
    """Room where the lab and the caches are."""
    import shutil

    from agentlab.engines.hub import cache_folder

    for name, folder in (("room for the lab", lab), ("room for caches", cache_folder())):
        place = folder.absolute()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        detail = f"{free / GIB:.1f} GiB free at {place}"
        if free >= ENOUGH_ROOM:
            yield Finding(name, "ok", detail)
        else:
            yield Finding(
                name, "problem" if free < TOO_LITTLE_ROOM else "warning", detail, "free some, a lab needs about 2 GiB"
            )


def models() -> Iterator[Finding]:
    """The models that are known by name: here, or to be fetched when first used."""
    from agentlab.cli.models import catalogue

    for row in catalogue():
        if not row["cached"]:
            remedy = f"agentlab models --fetch {row['name']}"
            yield Finding(row["name"], "warning", "not here yet; fetched when it is first used", remedy)
        elif list(Path(row["path"]).glob("*.safetensors")):
            yield Finding(row["name"], "ok", row["path"])
        else:
            yield Finding(row["name"], "problem", f"no weights in {row['path']}", "delete that folder")


def servers() -> Iterator[Finding]:
    """What models can be served by, with `--engine vllm`."""
    from agentlab.engines.vllm import Installed
    from agentlab.errors import MissingPackage

    try:
        found = Installed.find()
    except MissingPackage as error:
        lacking = _failed("vllm", error)
        yield replace(lacking, verdict="warning", detail=f"{lacking.detail} (optional)")
        return
    yield Finding("vllm", "ok", f"{found.version} for {'CPUs' if found.cpu else 'GPUs'}, in {found.python}")


def apis() -> Iterator[Finding]:
    """Which models behind an API can be asked, with `--engine chat`."""
    import os
    from importlib.util import find_spec

    from agentlab.engines.provider import EXTRAS as PACKAGES
    from agentlab.engines.provider import KEYS

    for provider, package in PACKAGES.items():
        key = KEYS.get(provider, "")
        if find_spec("langchain") is None or find_spec(package) is None:
            remedy = f"pip install 'agentlab[{provider}]'"
            yield Finding(provider, "warning", "no package for its models (optional)", remedy)
        elif key and not os.environ.get(key):
            yield Finding(provider, "ok", f"with --server; {key} is not set, which its own models need")
        else:
            yield Finding(provider, "ok", f"{key} is set" if key else "asked on this machine")


def health(lab: Path) -> Iterator[Finding]:
    """The lab: its database, its reflections, its adapters' files, and which of them serves."""
    if not lab.exists():
        yield Finding("lab", "ok", f"none at {lab}", "")
        return
    from agentlab.engines import hub
    from agentlab.views.work import neglected
    from trainers.errors import BadAdapter, WrongBase

    with opened(lab) as here:
        database = here.database
        if damage := database.connection.damage():
            remedy = "restore it from a copy, or save what can be read with `sqlite3 FILE .recover`"
            yield Finding("database", "problem", damage[0], remedy)
        else:
            counts = f"{database.episodes.count()} episodes, {database.reflections.count()} reflections"
            yield Finding("database", "ok", counts)
        if left := neglected(here):
            what, _, remedy = left.partition("; ")
            yield Finding("inbox", "warning", what, remedy.rstrip("."))
        yield (base := _base(here))
        whole = base.verdict == "ok" and not hub.behind_api(here.config.model)
        records, serving = here.adapters.list(), here.adapters.serving()
        for record in records:
            try:
                # A model that is not here yet is not fetched for this.
                here.adapters.folder_of(record.id, here.fingerprint if whole else None)
            except (BadAdapter, WrongBase) as error:
                verdict: Verdict = "problem" if record.id == serving else "warning"
                remedy = "agentlab adapters rollback" if record.id == serving else ""
                if isinstance(error, WrongBase):
                    remedy = "put the model back into lab.toml that the adapters were trained on"
                yield Finding(record.id, verdict, str(error), remedy)
        yield Finding("adapters", "ok", f"{len(records)}; serving: {serving or 'the base model'}")


def _base(lab: Lab) -> Finding:
    """Whether the model that the settings name is here and whole."""
    from agentlab.engines import hub, model_folder
    from agentlab.errors import AgentLabError

    name, chat = lab.config.model, hub.behind_api(lab.config.model)
    try:
        if chat:
            # Its package and its key are here; nothing is asked of it.
            name = lab.engine.name
            return Finding("model", "ok", f"{name}, behind an API: it plays and reflects; nothing can be trained on it")
        found = hub.here(name)
        if found is None:
            return Finding("model", "warning", f"{name} is not here yet; it is fetched when it is first used")
        model_folder.check(found)
    except AgentLabError as error:
        remedy = "" if chat else "put it back, or name the lab's model in lab.toml"
        return Finding("model", "problem", str(error), remedy)
    return Finding("model", "ok", name)


def _environments(chosen: list[str] | None) -> list[str]:
    """What was chosen, or what stands for each family; of one that is not here its name."""
    from environments import canonical, families

    if chosen:
        return [canonical(env) for env in chosen]
    return [name for family in families() for name in (family.checked if family.available else [family.name])]


def contract(env: str) -> Iterator[Finding]:
    """The contract check of one environment, or that its family is not here."""
    from environments import families
    from environments.check import check

    for family in families():
        if env.partition("/")[0] == family.name and not family.available:
            yield Finding(env, "warning", "not available", family.why_not or "")
            return
    # A game of each fold: whether it works here. `environments.check` by itself looks at more.
    report = check(env, episodes=1, starts=5)
    broken = [finding for finding in report.findings if not finding.ok]
    for finding in broken:
        yield Finding(
            env, "problem", f"{finding.rule}: {finding.detail}", "mend the environment, its results cannot be trusted"
        )
    if not broken:
        yield Finding(env, "ok", "keeps the contract")
