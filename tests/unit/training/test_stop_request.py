"""A request to stop is met at once, or when it suits."""

import os
import signal

import pytest

from speechbrain_sumra.training.stop_request import (
    STOPPED,
    StopRequest,
    leave_to_parent,
)


@pytest.fixture
def request_():
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGUSR1)}
    request = StopRequest()
    request.listen()
    yield request
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGUSR1])
def test_at_once(request_, name):
    with pytest.raises(SystemExit) as stop:
        os.kill(os.getpid(), name)
    assert stop.value.code == STOPPED == 75


def test_when_it_suits(request_):
    request_.meet()
    request_.deferred = True
    os.kill(os.getpid(), signal.SIGTERM)
    assert request_.received
    with pytest.raises(SystemExit):
        request_.meet()


def test_data_loading_processes_leave_it_to_their_parent(request_):
    leave_to_parent(0)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert not request_.received
