"""Code that runs past its time is stopped wherever it loops, in any thread; code that ends in time never notices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from data_contracts.rendering.bounded import TooSlowError, time_limit


def _spin(going_on: Callable[[], bool] = lambda: True) -> None:
    while going_on():
        pass


def _loop() -> None:
    with time_limit(0.1):
        _spin()


def test_a_loop_is_stopped_and_the_thread_goes_on() -> None:
    began = time.monotonic()
    with pytest.raises(TooSlowError):
        _loop()
    assert time.monotonic() - began >= 0.1
    with time_limit(60):
        value = sum(range(1000))
    assert value == 499500


def test_each_thread_has_its_own_limit() -> None:
    ended: dict[str, str] = {}

    def run(name: str, seconds: float) -> None:
        try:
            with time_limit(seconds):
                _spin(lambda: seconds <= 1 or not ended)
            ended[name] = "in time"
        except TooSlowError:
            ended[name] = "stopped"

    threads = [threading.Thread(target=run, args=arguments) for arguments in (("short", 0.1), ("long", 60.0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert ended == {"short": "stopped", "long": "in time"}


def test_an_error_of_the_body_is_the_error() -> None:
    with pytest.raises(KeyError), time_limit(60):
        raise KeyError("of the template")


def test_time_in_which_the_thread_does_not_run_does_not_count() -> None:
    """As on a machine with much else to do, where a template waited for more than its limit and the round failed."""
    with time_limit(0.1):
        time.sleep(0.5)
