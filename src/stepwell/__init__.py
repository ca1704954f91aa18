"""Durable workflows in the database you already have; the public names of stepwell, and nothing else."""

from importlib.metadata import version as _version

from stepwell.app import Durable, durable
from stepwell.blocking import BlockingDurable
from stepwell.engine.observer import (
    AttemptEnded,
    AttemptStarted,
    BatchCommitted,
    LeaseLost,
    Observer,
    RunEnded,
    RunParked,
    RunsClaimed,
    RunStarted,
    WorkerDead,
)
from stepwell.errors import (
    AttemptOverError,
    DefinitionError,
    DurableError,
    Failure,
    JournalError,
    PayloadError,
    RunCanceledError,
    RunFailedError,
    RunNotFoundError,
    SchemaError,
    StoredValueError,
    StoreUnavailableError,
    WorkflowNotRegisteredError,
)
from stepwell.reading.explanations import Action, Explanation, Part, Reason
from stepwell.reading.records import Entry, ResumeResult, RunSnapshot, RunStatus, SchemaStatus, StartResult
from stepwell.workflow.builder import Workflow
from stepwell.workflow.context import Context
from stepwell.workflow.in_memory import RunResult
from stepwell.workflow.nodes import Branch
from stepwell.workflow.policy import Abort, Backoff, Retry, Suspended
from stepwell.workflow.secret import Secret

__all__ = [
    "Abort",
    "Action",
    "AttemptEnded",
    "AttemptOverError",
    "AttemptStarted",
    "Backoff",
    "BatchCommitted",
    "BlockingDurable",
    "Branch",
    "Context",
    "DefinitionError",
    "Durable",
    "DurableError",
    "Entry",
    "Explanation",
    "Failure",
    "JournalError",
    "LeaseLost",
    "Observer",
    "Part",
    "PayloadError",
    "Reason",
    "ResumeResult",
    "Retry",
    "RunCanceledError",
    "RunEnded",
    "RunFailedError",
    "RunNotFoundError",
    "RunParked",
    "RunResult",
    "RunSnapshot",
    "RunStarted",
    "RunStatus",
    "RunsClaimed",
    "SchemaError",
    "SchemaStatus",
    "Secret",
    "StartResult",
    "StoreUnavailableError",
    "StoredValueError",
    "Suspended",
    "WorkerDead",
    "Workflow",
    "WorkflowNotRegisteredError",
    "durable",
]

for _name in __all__:
    globals()[_name].__module__ = __name__  # so that tracebacks, reprs and pickles name what users import
del _name

__version__: str = _version("stepwell")
"""The installed version of stepwell."""
