"""A scheduler's request to stop, met when nothing is lost by it."""

import signal

STOPPED = 75  # the exit code: EX_TEMPFAIL of sysexits.h, "try again later"
# Before its time is up a job gets SIGTERM, or what `sbatch --signal` names.
SIGNALS = ("SIGTERM", "SIGUSR1")


class StopRequest:
    """Turns SIGTERM and SIGUSR1 into an exit: at once, or when it suits.

    Attributes
    ----------
    received : bool
        Whether there was a request.
    deferred : bool
        Whether an exit must wait for ``meet``.

    Example
    -------
    >>> request = StopRequest()
    >>> request.deferred = True
    >>> request.receive()
    >>> request.received
    True
    >>> request.meet()
    Traceback (most recent call last):
        ...
    SystemExit: 75
    """

    def __init__(self):
        self.received = False
        self.deferred = False

    def listen(self) -> None:
        """From here on, take the signals for requests; main thread only."""
        for name in SIGNALS:
            if hasattr(signal, name):  # Windows has no SIGUSR1
                signal.signal(getattr(signal, name), self.receive)

    def receive(self, *_) -> None:
        """Note a request; without deferral, exit."""
        self.received = True
        if not self.deferred:
            self.meet()

    def meet(self) -> None:
        """Exit if there was a request.

        Raises
        ------
        SystemExit
            With the code ``STOPPED``.
        """
        if self.received:
            raise SystemExit(STOPPED)


stop_request = StopRequest()  # signals belong to the whole process


def leave_to_parent(worker: int) -> None:
    """Have a data loading process ignore requests: its parent ends it in time.

    Arguments
    ---------
    worker : int
        Its number.
    """
    del worker
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
