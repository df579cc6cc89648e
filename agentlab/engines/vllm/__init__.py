"""A model on a vLLM server: started by this program, or one that runs already."""

from agentlab.engines.vllm.engine import VllmEngine
from agentlab.engines.vllm.installed import PYTHON, Installed

__all__ = ["PYTHON", "Installed", "VllmEngine"]
