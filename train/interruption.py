"""SIGTERM, SIGHUP and Ctrl-C during a training: finish the step, save it, exit with 128 + n."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# Launchers pass a terminal's Ctrl-C on to processes that have had it from the terminal already.
ECHO_S = 0.5


class TrainingStopped(SystemExit):
    """A training that a signal ended after a checkpoint; its code is 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class Interruption:
    """From `listen` to the block's end a first signal is noted, and a second one ends at once.

    A signal that is ignored stays ignored (nohup, jobs in the background of a script).
    """

    def __init__(self) -> None:
        self._number, self._at = 0, 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        return self

    def listen(self) -> None:
        """From here on there is something to save."""
        if threading.current_thread() is threading.main_thread():
            for each in SIGNALS:
                if signal.getsignal(each) is not signal.SIG_IGN:
                    self._before[each] = signal.signal(each, self._note)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        launched = "LOCAL_RANK" in os.environ
        if not self._number:
            self._number, self._at = number, time.monotonic()
            name = signal.Signals(number).name
            # Not print, which may be in the middle of printing.
            if os.environ.get("RANK", "0") == "0":
                text = f"\n{name}: finishing this step and saving it; a second one ends at once\n"
                os.write(2, text.encode())
        elif not launched or time.monotonic() - self._at > ECHO_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def agreed(self, accelerator: Accelerator) -> int:
        """The signal that any of the processes has had, or 0; all of them get the same answer."""
        if accelerator.num_processes == 1:
            return self._number
        mine = torch.tensor([self._number], dtype=torch.int64, device=accelerator.device)
        everybody: Any = accelerator.gather(mine)
        return int(everybody.max())
