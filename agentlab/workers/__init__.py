"""Other processes, on this machine or on a Ray cluster, that each hold one object and do what is asked of it."""

from agentlab.workers.asked import workers_of
from agentlab.workers.base import NoRoom, Worker, WorkerDied, Workers, received

__all__ = ["NoRoom", "Worker", "WorkerDied", "Workers", "received", "workers_of"]
