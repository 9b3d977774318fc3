"""The three places where Ray Tune calls in: its searcher, its callback and its stopper."""

from __future__ import annotations

from typing import Any

import ray
from ray.tune import Callback, Stopper
from ray.tune.search import Searcher

from search.driver import Driver, WorkersDie, unpacked


class Proposals(Searcher):
    """Tune's searcher over a course. It has no state of its own: the ledger is what resume trusts."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(metric=None, mode=None)
        self._driver = driver

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        """There is no space for Tune to know."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next task, None for now, or FINISHED."""
        config = self._driver.suggest(trial_id)
        return self.FINISHED if config is None and self._driver.finished else config

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """The callback does it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def __deepcopy__(self, memo: Any) -> Proposals:
        return self

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()


class Bookkeeper(Callback):
    """Takes in results and failures, and kills what has to go."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Kill the workers of a search that closes, and hung ones: their keepers end the servers."""
        doomed = set(self._driver.flights if self._driver.closing.why else self._driver.overdue())
        for trial in trials:
            if trial.trial_id in doomed and (actor := trial.temporary_state.ray_actor) is not None:
                ray.kill(actor)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An event from a worker."""
        event = unpacked(result)
        if event is not None:
            self._guarded(lambda: self._driver.take(trial.trial_id, event))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The worker has said all it had to say."""
        self._guarded(lambda: self._driver.over(trial.trial_id, None))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The worker is gone."""
        self._guarded(lambda: self._driver.over(trial.trial_id, "its worker or its node died"))

    def _guarded(self, act: Any) -> None:
        try:
            act()
        except WorkersDie as error:
            self._driver.closing.close(str(error))

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()


class StopAll(Stopper):
    """Ends Tune's loop when the search closes."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """No single trial is stopped from here."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is closing."""
        return self._driver.closing.why is not None

    def __deepcopy__(self, memo: Any) -> StopAll:
        return self

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()
