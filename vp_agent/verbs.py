"""The verbs of `vp-agent`: what each is called, takes, does, and which command comes next.

A verb's modules are imported when it is called, and what is heavy when its flags have been read.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from vp_agent.next_command import (
    after_bench,
    after_cache,
    after_check,
    after_report,
    after_stats,
    after_train,
    fly,
)

Load = Callable[[], tuple[type[Any], Callable[[Any], object]]]


@dataclass(frozen=True)
class Verb:
    """One verb: a line about it, its settings and its call, and what to type after it."""

    about: str
    load: Load
    then: Callable[[Any], Sequence[str]] = lambda settings: ()
    """Words of the next command; none where the output is for a program."""


@dataclass(frozen=True, kw_only=True)
class EnvsSettings:
    """Lists the environment ids, and for those that cannot run here the command that fixes it."""


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Writes results.json, report.md and report.html of one evaluation or of several."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that `vp-agent eval --out` made, each a policy."""
    out: Path | None = None
    """Where to write; by default into the folder, for several into outputs/report."""


def _demo() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.demo import DemoSettings, demo
    from vp_agent.refusals import check_tier

    def call(settings: DemoSettings) -> None:
        check_tier(settings.agent, settings.tier)
        demo(settings)

    return DemoSettings, call


def _envs() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.doctor import environment_lines

    return EnvsSettings, lambda settings: print("\n".join(environment_lines()))


def _doctor() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.doctor import DoctorSettings, doctor

    return DoctorSettings, doctor


def _install() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.install import InstallSettings, install

    return InstallSettings, install


def _collect() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.train.collect import CollectSettings, collect

    def call(settings: CollectSettings) -> None:
        made = collect(settings)
        print(
            f"{made.out}: {made.episodes} episodes, {made.frames} frames; the expert succeeded "
            f"in {made.success_rate:.0%} of {made.tried} seeds ({made.seconds:.0f} s)"
        )

    return CollectSettings, call


def _data_convert() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.train.convert_hdf5 import ConvertDataSettings, convert_hdf5

    return ConvertDataSettings, lambda settings: print(convert_hdf5(settings))


def _data_check() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.train.check import CheckSettings, check_dataset

    return CheckSettings, check_dataset


def _data_stats() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.train.dataset_stats import StatsSettings, print_stats

    return StatsSettings, print_stats


def _data_show() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.train.show import ShowSettings, show

    return ShowSettings, lambda settings: print(show(settings))


def _data_cache() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.train.caching import CacheSettings, cache

    return CacheSettings, lambda settings: print(*cache(settings), sep="\n")


def _train() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.train.settings import TrainSettings

    def call(settings: TrainSettings) -> None:
        if settings.plan:
            from vp_agent.train.plan import plan

            return print(plan(settings))
        if settings.show:
            return print(json.dumps(asdict(settings), indent=2, default=str))
        from vp_agent.refusals import check_training

        check_training(settings)
        from vp_agent.train.trainer import train  # torch and LeRobot, not needed for --help

        print(train(settings))

    return TrainSettings, call


def _eval() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.evaluation.runner import EvalSettings, check_output, evaluate, schedule
    from vp_agent.evaluation.statistics import describe
    from vp_agent.refusals import check_tier

    def call(settings: EvalSettings) -> None:
        schedule(settings)  # suite, tasks and environment
        check_output(settings)
        check_tier(settings.agent, settings.tier)
        print(describe(evaluate(settings)))
        print(settings.out)

    return EvalSettings, call


def _merge() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.evaluation.merge import MergeSettings, describe, merge

    return MergeSettings, lambda settings: print(describe(merge(settings), settings.out))


def _convert() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.checkpoints.settings import ConvertSettings

    def call(settings: ConvertSettings) -> None:
        from vp_agent.refusals import check_conversion

        check_conversion(settings)
        from vp_agent.checkpoints.convert import convert  # torch, not needed for --help

        made = convert(settings)
        print("\n".join(f"{name}: {value}" for name, value in made.about.items()))
        print(made.folder)

    return ConvertSettings, call


def _report() -> tuple[type[Any], Callable[[Any], object]]:
    def call(settings: ReportSettings) -> None:
        from vp_agent.report import write_report  # Matplotlib, not needed for --help

        print(write_report(*settings.folders, out=settings.out))

    return ReportSettings, call


def _compare() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.evaluation.compare import CompareSettings, compare_folders

    return CompareSettings, lambda settings: print(compare_folders(settings))


def _audit() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.evaluation.audit import AuditSettings, audit, describe_audit

    def call(settings: AuditSettings) -> None:
        print(describe_audit(audit(settings)))
        print(settings.folder / "audit.html")

    return AuditSettings, call


def _bench() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.bench_settings import BenchSettings

    def call(settings: BenchSettings) -> None:
        from vp_agent.refusals import check_file, check_preset, check_tier

        if settings.preset is not None:
            check_preset(settings.preset)
        else:
            check_tier(str(settings.agent), settings.tier)
        if settings.out is not None:
            check_file(settings.out)
        from vp_agent.bench import bench  # torch, not needed for --help

        bench(settings)

    return BenchSettings, call


DATA_VERBS = {
    "convert": Verb(
        "turn HDF5 files of robomimic or RoboCasa into a dataset",
        _data_convert,
        lambda settings: ["data", "check", str(settings.out)],
    ),
    "check": Verb(
        "name what is wrong with a dataset",
        _data_check,
        after_check,
    ),
    "stats": Verb("print the size, tasks and ranges of a dataset", _data_stats, after_stats),
    "show": Verb(
        "draw a contact sheet of a dataset",
        _data_show,
        lambda settings: ["data", "check", str(settings.root)],
    ),
    "cache": Verb("encode a dataset's latents ahead of training", _data_cache, after_cache),
}
VERBS: dict[str, Verb | tuple[str, Mapping[str, Verb]]] = {
    "demo": Verb(
        "fly the packaged agent and write a report",
        _demo,
        lambda settings: fly(settings.agent, settings.env),
    ),
    "envs": Verb(
        "list the environments, and what is missing for those that cannot run",
        _envs,
        lambda settings: fly("packaged:lift"),
    ),
    "doctor": Verb(
        "check this machine: rendering, simulators, decoding, GPU, disk",
        _doctor,
        lambda settings: ["demo"],
    ),
    "install": Verb(
        "make a virtual environment with a simulator", _install, lambda settings: ["doctor"]
    ),
    "collect": Verb(
        "record scripted demonstrations as a LeRobot dataset",
        _collect,
        lambda settings: ["data", "check", str(settings.out)],
    ),
    "data": ("convert, check, measure, show and encode datasets", DATA_VERBS),
    "train": Verb("train the video stage or the action stage", _train, after_train),
    "eval": Verb(
        "fly an agent for many episodes and count its successes",
        _eval,
        lambda settings: ["report", str(settings.out)],
    ),
    "merge": Verb(
        "join the journals of one evaluation that several machines have shared",
        _merge,
        lambda settings: ["report", str(settings.out)],
    ),
    "bench": Verb(
        "measure how long a plan takes on this machine",
        _bench,
        after_bench,
    ),
    "convert": Verb(
        "turn a released checkpoint into an agent folder",
        _convert,
        lambda settings: ["bench", "--agent", str(settings.out)],
    ),
    "report": Verb(
        "turn evaluation folders into one page, beside the paper's tables", _report, after_report
    ),
    "compare": Verb(
        "compare policies on the same episodes: McNemar, non-inferiority",
        _compare,
        lambda settings: ["report", *map(str, settings.folders)],
    ),
    "audit": Verb(
        "compare imagined with executed frames: was it the video or the actions?",
        _audit,
        lambda settings: ["report", str(settings.folder)],
    ),
}
