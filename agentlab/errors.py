"""What can go wrong on the top floor. Each message says what, why, and what to do, in one line."""

from __future__ import annotations


class AgentLabError(Exception):
    """Base of all errors of this package; the command line prints it as one line and exits with 2."""


class NotALab(AgentLabError):
    """The folder is not a lab, or its format is newer than this program."""


class LabLocked(AgentLabError):
    """Another process holds the lab for writing."""


class BadRequest(AgentLabError):
    """What lies in a lab's inbox is nothing that could be done for whoever asks."""


class UnknownModel(AgentLabError):
    """No base model of that name is known or at hand."""


class UnsupportedModel(AgentLabError):
    """The model cannot be scored through a token tree."""


class ModelTooLarge(AgentLabError):
    """The model, or what it needs to play, does not fit into the memory that is free."""


class BadModel(AgentLabError):
    """A model folder is not whole, or not of a form that can be loaded safely."""


class BadSteering(AgentLabError):
    """A steering vector is not there, is damaged, or was made for another model."""


class EngineFailed(AgentLabError):
    """An engine raised an error of its own while an episode was played."""


class Unacceptable(EngineFailed):
    """An engine, or the server that it asks, does not take a request as it is; asked otherwise it may."""


class ApiRefused(AgentLabError):
    """A model behind an API takes no request at all: its key, its name or its account is wrong."""


class ContextExceeded(EngineFailed):
    """What an engine is to read at once does not fit into its context, and cannot be cut."""


class WeightsCorrupt(AgentLabError):
    """Downloaded weights do not have the checksum that their pin says."""


class ModelUnavailable(AgentLabError):
    """The model is known but could not be brought here."""


class ReplayMismatch(AgentLabError):
    """An environment did not answer recorded actions with the recorded observations."""


class ActorFailed(AgentLabError):
    """An actor raised an error of its own, or decided for what was not offered."""


class NoCommands(AgentLabError):
    """Commands are to be chosen from, and the environment lists none because it takes any text."""


class ReflectorFailed(AgentLabError):
    """A reflector raised an error of its own."""


class RunFailed(AgentLabError):
    """Episode after episode failed for one reason, which is not the environment's; what was played is kept."""


class Undecided(AgentLabError):
    """Games that errored could turn a decision, so none was made; the same command plays them again."""


class LabClosed(AgentLabError):
    """A lab was asked for something after it was closed."""


class BadConfig(AgentLabError):
    """A config file or an option has a value that makes no sense."""


class Stopped(AgentLabError):
    """Work was stopped on request; what was finished is kept and the same command goes on from there."""


class MissingPackage(AgentLabError):
    """A package that only some work needs is not installed."""


class RedactionFailed(AgentLabError):
    """A person's function for texts raised an error of its own, or gave what is no text."""


class UnknownEvaluation(AgentLabError):
    """No evaluation of the lab has this name, or it has no such arm."""


class UnknownRound(AgentLabError):
    """No round has this id, or it has no example of this number."""


class UnreadableRecord(AgentLabError):
    """A record of a lab has not the form that this version reads."""


class UnknownReflector(AgentLabError):
    """No reflector has this name."""


class NotConforming(AgentLabError):
    """An engine, an actor, a reflector, an environment or a sink does not keep what the others rely on."""


class LimitReached(AgentLabError):
    """What a command may spend on models is spent; what was finished is kept, and with more it goes on."""


class OutOfBudget(AgentLabError):
    """The next step or scoring of a search would exceed its budget."""


class ServerFailed(EngineFailed):
    """A server did not answer, refused, or answered something else than what was asked for.

    `status` is the HTTP status it refused with, None where it did not; `reason` what went wrong, without a sentence;
    `hangs` says that it was there, and silent for too long.
    """

    def __init__(self, message: str, *, status: int | None = None, reason: str = "", hangs: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.hangs = hangs


class ServerUnavailable(AgentLabError):
    """A server cannot be started, is not there, or serves another model than the lab's."""
