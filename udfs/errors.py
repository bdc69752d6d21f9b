"""Errors that stop a worker with one sentence for the operator; the driver knows them by this module name."""


class WorkerError(RuntimeError):
    """A worker can't continue; the message is one sentence."""


class EngineError(WorkerError):
    """The engine can't be used."""


class RefusedError(WorkerError):
    """A server refuses these texts, in its own words."""


class FoldError(WorkerError):
    """The stream can't be folded."""


class SecretKeyError(WorkerError):
    """The secret key of user ids can't be used; the message does not contain it."""
