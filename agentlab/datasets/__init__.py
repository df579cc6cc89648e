"""The episodes of a lab as a Hugging Face data set: Parquet files beside a card by which `datasets` loads them."""

from __future__ import annotations

from agentlab.datasets.exporting import Exported, export_episodes
from agentlab.datasets.redaction import Redact

__all__ = ["Exported", "Redact", "export_episodes"]
