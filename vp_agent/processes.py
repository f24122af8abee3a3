"""Processes that end in order: on a signal, and workers with what started them."""

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection
from types import FrameType


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP, raised as Ctrl-C is, so that what is open is closed and workers end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def end_on_signals() -> None:
    """From here on SIGTERM and SIGHUP raise `Ended`; what is ignored (nohup) stays ignored."""

    def end(number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGHUP):  # a second one ends at once
            signal.signal(each, signal.SIG_DFL)
        raise Ended(number)

    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(each) == signal.SIG_DFL:
                signal.signal(each, end)


def die_with_parent() -> None:
    """Ends this worker when its parent is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
