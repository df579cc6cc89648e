"""Everything that can go wrong while experience is turned into weights.

Each message is one line: what happened; why; what to do. The command line prints it as it is.
"""

from __future__ import annotations

from typing import ClassVar


class TrainersError(Exception):
    """Base of all errors of this package."""


class BadExample(TrainersError):
    """An episode that cannot become a training example. `reason` is by what such episodes are counted."""

    reason: ClassVar[str] = "makes no example"


class TooLong(BadExample):
    """The last turn alone, with the task, is longer than an example may be."""

    reason = "too long"


class NothingToChoose(BadExample):
    """No step of it that fits has both a teacher's scores and a choice."""

    reason = "no teacher's choice"


class SameSides(BadExample):
    """A pair whose sides do the same."""

    reason = "both sides the same"


class NothingTaught(BadExample):
    """None of its actions was admissible, so that none may be taught."""

    reason = "nothing admissible"


class CannotSelect(TrainersError):
    """A selector that lacks what it needs, or was given what does not fit the episodes."""


class BadTexts(TrainersError):
    """A file of general texts that cannot be read."""


class NothingToTrain(TrainersError):
    """A job without a single token that carries loss."""


class NotAJob(TrainersError):
    """A folder that does not hold a training job, or one that was damaged."""


class JobExists(TrainersError):
    """A job folder that already holds a different job."""


class JobChanged(TrainersError):
    """A job folder that came back is not the one that was sent."""


class JobBusy(TrainersError):
    """Another process is working on this job."""


class MissingBase(TrainersError):
    """The base model of a job or adapter is not where it was looked for."""


class WrongBase(TrainersError):
    """The base model at hand is not the one that a job or adapter was made for."""


class BadBase(TrainersError):
    """The base model of a job is where it should be, and cannot be loaded."""


class MissingDependency(TrainersError):
    """A package that training needs is not installed."""


class DiskFull(TrainersError):
    """No room to write a job's data, checkpoints or results."""


class TrainingDiverged(TrainersError):
    """The loss or a weight became infinite or not a number."""


class LossSpike(TrainingDiverged):
    """The loss jumped far above what it was before."""


class UnsupportedModel(TrainersError):
    """A model that reads batches in another way than training needs."""


class CannotPack(TrainersError):
    """A model whose attention cannot be computed without padding."""


class BadTargets(TrainersError):
    """Layers that a job asks LoRA for and that cannot have it."""


class OutOfMemory(TrainersError):
    """Not even one example at once fits into memory."""


class UnknownReporter(TrainersError):
    """A name in `report_to` that no integration has."""


class CanaryFailed(TrainersError):
    """The loaded adapter does not score the recorded text as it did when it was trained."""


class BadAdapter(TrainersError):
    """A folder that is not an adapter that can be trusted (missing files, pickled weights)."""


class CannotMerge(TrainersError):
    """Adapters that cannot be merged, or not in the way that was asked for."""


class CannotExport(TrainersError):
    """An adapter that cannot be written where it was asked for."""


class UnknownAdapter(TrainersError):
    """No adapter has this id."""


class PromotionRefused(TrainersError):
    """An adapter that did not pass its gate may not serve."""


class AdapterInUse(TrainersError):
    """The adapter that serves cannot be rejected or retired."""


class NothingToRollBack(TrainersError):
    """No adapter has served before the present one."""


class NoChatTemplate(TrainersError):
    """A model has no chat template in which a game can be played, or one that rewrites what was said before."""


class NotComparable(TrainersError):
    """Two sets of results that share too few tasks and seeds to be compared."""
