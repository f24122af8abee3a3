"""The lanes at work: episodes in, journal lines out, side by side and beside other evaluators."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from tqdm import tqdm

from vp_agent.errors import SimulatorError
from vp_agent.evaluation.journal import Journal
from vp_agent.evaluation.record import EpisodeRecord, Flight
from vp_agent.evaluation.recording import Recording
from vp_agent.evaluation.suites import Episode

_ERRORS_IN_A_ROW = 5  # then it is not the episode that is broken
_LOOK_AGAIN_S = 1.0  # at the episodes that another evaluator is flying
_STOP_S = 10.0  # for a lane to end when its environment is killed


class Flier(Protocol):
    """What flies one episode after the other: a `Lane`, here or on another machine."""

    def fly(self, episode: Episode, *, recording: Recording | None = None) -> Flight:
        """What the journal says of the episode."""
        ...

    def kill(self) -> None:
        """Ends the flight, from another thread."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


class Flights:
    """Flies every episode that has no outcome in the journal yet."""

    def __init__(
        self,
        episodes: Sequence[Episode],
        journal: Journal,
        lanes: Sequence[Flier],
        *,
        recording: Recording,
        record: int,
    ) -> None:
        """Takes the lanes for itself.

        Args:
            episodes: What to fly.
            journal: Where its lines go.
            lanes: Who flies.
            recording: How films are made.
            record: Of how many of each task's first episodes.
        """
        self._episodes, self._journal, self._lanes = episodes, journal, lanes
        # an error of an earlier call may come back; it must not keep the others from flying
        self._failed = {r.key for r in journal.records if r.success is None}
        self._open = sorted(episodes, key=lambda episode: episode.key in self._failed)
        self._recording = recording
        filmed: dict[str, int] = {}
        self._filmed = {
            episode.key
            for episode in episodes
            if filmed.setdefault(episode.task, episode.number) + record > episode.number
        }
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._finished: queue.SimpleQueue[EpisodeRecord | BaseException | None] = (
            queue.SimpleQueue()
        )

    def run(self) -> None:
        """Returns when every episode has a line.

        Raises:
            SimulatorError: the environment broke in several episodes running, all for the first
                time.
        """
        keys = [episode.key for episode in self._episodes]
        known, total, errors = len(self._journal.outcomes(keys)), len(keys), 0
        started = time.monotonic()
        with tqdm(total=total, initial=known, unit="ep", disable=None) as bar:
            for record in self._lines():
                ended = self._journal.outcomes(keys)  # those of other evaluators too
                rate = f"{sum(x.success is True for x in ended)} of {len(ended)} successes"
                told = _described(record)
                if bar.disable and len(ended) > known:  # no terminal: each line says how far it is
                    per_episode = (time.monotonic() - started) / (len(ended) - known)
                    left = tqdm.format_interval((total - len(ended)) * per_episode)
                    told += f" [{len(ended)} of {total}, {rate}, {left} left]"
                bar.write(told)
                bar.set_postfix_str(rate, refresh=False)
                bar.update(len(ended) - bar.n)
                if record.success is not None:
                    errors = 0
                elif record.key not in self._failed:
                    errors += 1
                if errors == min(_ERRORS_IN_A_ROW, total):
                    raise SimulatorError(
                        f"the environment broke in {errors} episodes running, the last time with: "
                        f"{record.error}. Check this machine: vp-agent doctor"
                    )

    def _lines(self) -> Iterator[EpisodeRecord]:
        threads = [
            threading.Thread(target=self._work, args=(lane,), daemon=True) for lane in self._lanes
        ]
        for thread in threads:
            thread.start()
        try:
            running = len(threads)
            while running:
                finished = self._finished.get()
                if isinstance(finished, BaseException):
                    raise finished
                if finished is None:
                    running -= 1
                else:
                    yield finished
        finally:  # also after Ctrl-C
            self._stop.set()
            for lane in self._lanes:
                lane.kill()
            for thread in threads:
                thread.join(_STOP_S)

    def _work(self, lane: Flier) -> None:
        try:
            while (episode := self._next()) is not None:
                filmed = self._recording if episode.key in self._filmed else None
                line = lane.fly(episode, recording=filmed)
                if self._stop.is_set():
                    return
                self._finished.put(self._journal.append(line))
                self._journal.release(episode.key)
        except BaseException as error:
            self._finished.put(error)
        finally:
            lane.close()
            self._finished.put(None)

    def _next(self) -> Episode | None:
        """An episode that nobody has flown or is flying; waits for those of other evaluators."""
        while not self._stop.is_set():
            with self._lock:
                for episode in list(self._open):
                    if not self._journal.claim(episode.key):
                        continue  # another evaluator flies it; it may die, so come back
                    self._open.remove(episode)
                    self._journal.refresh()
                    if not self._journal.outcomes([episode.key]):
                        return episode
                    self._journal.release(episode.key)
                if not self._open:
                    return None
            self._stop.wait(_LOOK_AGAIN_S)
        return None


def _described(record: EpisodeRecord) -> str:
    name = f"{record.task} {record.episode}"
    if record.success is None:
        return f"{name}: error after {record.attempts} attempts: {record.error}"
    return (
        f"{name}: {'success' if record.success else 'failure'} after {record.steps} steps, "
        f"{record.plans} plans of {record.seconds_per_plan:.2f} s, {record.wall_s:.1f} s in all"
    )
