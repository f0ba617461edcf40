"""Every error a user of the testbed can meet.

Each class is one kind of trouble and subclasses the nearest builtin, so that callers may catch
either. A message says what is wrong, where, and what to do about it.
"""


class TestbedError(Exception):
    """Any of the errors below."""


class ScenarioError(TestbedError, ValueError):
    """A scenario file asks for something that makes no sense or does not exist."""


class UnitError(TestbedError, ValueError):
    """A quantity cannot be read: no unit, an unknown one, or one of another kind."""


class TraceError(TestbedError, ValueError):
    """A mobility trace is malformed, empty, or does not lie on the map."""


class MapError(TestbedError, ValueError):
    """A road map cannot be read or holds no usable road."""


class DataNotFoundError(TestbedError, FileNotFoundError):
    """A data set the scenario names is not on this machine."""


class ChecksumError(TestbedError, ValueError):
    """A file is not the one whose checksum was named."""


class DataImportError(TestbedError, OSError):
    """A data set cannot be fetched, unpacked or stored; nothing of it was left behind."""


class UnsupportedMachineError(TestbedError, OSError):
    """This machine cannot do what is asked; the message lists what is missing and the remedy."""


class LabError(TestbedError, RuntimeError):
    """A lab cannot be started, reached or taken down."""


class HostUnreachableError(TestbedError, ConnectionError):
    """A host does not answer over SSH, or its agent has gone."""


class RemoteCommandError(TestbedError, RuntimeError):
    """A command on a host failed.

    Attributes
    ----------
    host : str
        Where it ran.
    log : str
        The relevant last lines of its output.
    """

    def __init__(self, message: str, *, host: str = "", log: str = "") -> None:
        super().__init__(message)
        self.host = host
        self.log = log


class ProvisioningError(TestbedError, RuntimeError):
    """Ansible could not bring a host into the state the playbook describes."""


class LinkNotAsRequestedError(TestbedError, ValueError):
    """An emulated link does not behave as the scenario asks."""


class RecipeError(TestbedError, ValueError):
    """A container recipe uses an instruction that the builder does not know, or uses it wrongly."""


class ImageBuildError(TestbedError, RuntimeError):
    """A step of a container recipe failed; the message holds the end of its output."""


class ModelError(TestbedError, ValueError):
    """A learnt model's file is malformed, or belongs to another map."""


class ServiceError(TestbedError, RuntimeError):
    """A service did not start or did not answer as it must."""


class WrongAnswerError(TestbedError, AssertionError):
    """A service lost, repeated or falsified an answer; the run's results cannot be trusted."""


class MigrationError(TestbedError, RuntimeError):
    """A migration failed; the service runs on at the source unless the message says otherwise.

    Attributes
    ----------
    phase : str
        The phase in which it failed.
    running_at : str
        The host where the service runs now; empty where it is lost.
    log : str
        The relevant lines of CRIU's log.
    """

    def __init__(
        self, message: str, *, phase: str = "", running_at: str = "", log: str = ""
    ) -> None:
        super().__init__(message)
        self.phase = phase
        self.running_at = running_at
        self.log = log


class PreflightError(MigrationError):
    """A service cannot be restored where it should go; nothing was touched.

    Attributes
    ----------
    reasons : tuple of str
        Each with its remedy.
    """

    def __init__(
        self, message: str, *, reasons: tuple[str, ...] = (), running_at: str = ""
    ) -> None:
        super().__init__(message, phase="preflight", running_at=running_at)
        self.reasons = reasons


class InfeasiblePlanError(TestbedError, ValueError):
    """No placement of all users meets every constraint."""


class PlanTimeoutError(TestbedError, TimeoutError):
    """The time was up before any placement of all users was found."""


class CheckpointError(TestbedError, ValueError):
    """What should be a checkpoint is none, or is not whole."""


class ResultsError(TestbedError, ValueError):
    """A results folder is incomplete or was not written by a run."""
