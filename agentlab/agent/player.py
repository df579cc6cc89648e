"""Whom a worker holds: a player of episodes, over a copy of a lab of its own."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentlab import tracing
from agentlab.agent.crew import Order
from agentlab.agent.result import EpisodeResult, EpisodeSink
from agentlab.agent.rollout import Rollout, rollout_of
from agentlab.agent.spec import EpisodeSpec
from agentlab.workers import received
from agentlab.workspace.workspace import Workspace

if TYPE_CHECKING:
    from agentlab.engines.base import Engine


class _Handing(EpisodeSink):
    """Keeps results in the copy, where later trials find them; the last one is handed on."""

    def __init__(self, own: EpisodeSink) -> None:
        self._own = own
        self.last: EpisodeResult | None = None

    def put(self, result: EpisodeResult) -> None:
        self._own.put(result)
        self.last = result

    def known(self, run: str, id: str) -> dict[str, Any] | None:
        return self._own.known(run, id)


class Player:
    """Plays episodes of one rollout after the other. The engine is loaded once.

    Args:
        modules: are imported first: they register environments and the like.
        trace: where spans go, as of `tracing.begin`.
    """

    def __init__(self, modules: Sequence[str] = (), trace: str = "") -> None:
        tracing.begin(trace)
        for module in modules:
            importlib.import_module(module)
        self._place = Path(tempfile.mkdtemp(prefix="agentlab-worker-"))
        self._workspace: Workspace | None = None
        self._rollout: Rollout | None = None
        self._sink: _Handing | None = None
        self._engine: Engine | None = None

    def prepare(self, lab: Any, order: Order) -> str:
        """Play for a rollout from now on, in the copy of a lab that was shared; returns the name of what plays."""
        self._leave()
        folder = self._place / "lab"
        received(lab, folder)
        self._workspace = Workspace.open(folder, engine=self._engine, progress=False)
        self._rollout = rollout_of(
            self._workspace,
            order.run,
            order.arm,
            reflectors=order.reflectors,
            seed=order.seed,
            refining=order.refining,
            hold_out_tools=order.hold_out_tools,
            credit=order.credit,
            checkpoints=False,
        )
        self._rollout.sink = self._sink = _Handing(self._rollout.sink)
        if self._rollout.model is None:
            return order.arm.engine
        self._engine = self._rollout.model.engine
        return self._rollout.model.name

    def play(
        self, spec: EpisodeSpec, earlier: Sequence[EpisodeResult], span: Mapping[str, str] | None = None
    ) -> EpisodeResult:
        """Play an episode. `earlier` are trials of its task that others may have played since the copy was made, and
        `span` that within which it is played (`tracing.told`)."""
        assert self._rollout is not None and self._sink is not None, "prepared first"
        for result in earlier:
            self._sink.put(result)
        with tracing.within(span or {}):
            self._rollout.episode(spec)
        assert self._sink.last is not None, "however it ended"
        return self._sink.last

    def _leave(self) -> None:
        if self._rollout is not None:
            self._rollout.close()
        if self._workspace is not None:
            self._workspace.engine_given = True  # it plays on in the next one
            self._workspace.close()
        self._rollout = self._workspace = None
        shutil.rmtree(self._place / "lab", ignore_errors=True)

    def close(self) -> None:
        """Leave nothing behind."""
        tracing.end()
        self._leave()
        shutil.rmtree(self._place, ignore_errors=True)
