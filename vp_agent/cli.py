"""The command `vp-agent VERB`; a verb's modules are imported only when it is called."""

import errno
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from vp_agent.errors import UnknownNameError, VPAgentError, closest
from vp_agent.processes import end_on_signals

# A full disk, a quota, a read-only or forbidden folder, a file where a folder is wanted: the
# user's to mend, not a bug.
_OS_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG}
_OS_ERRORS |= {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}


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

    return DemoSettings, demo


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

    return CollectSettings, collect


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


def _train() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.train.settings import TrainSettings

    def call(settings: TrainSettings) -> None:
        if settings.plan:
            from vp_agent.train.plan import plan

            return print(plan(settings))
        if settings.show:
            return print(json.dumps(asdict(settings), indent=2, default=str))
        from vp_agent.train.trainer import train  # torch and LeRobot, not needed for --help

        train(settings)

    return TrainSettings, call


def _eval() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.evaluation.runner import EvalSettings, evaluate
    from vp_agent.evaluation.statistics import describe

    return EvalSettings, lambda settings: print(describe(evaluate(settings)))


def _merge() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.evaluation.merge import MergeSettings, describe, merge

    return MergeSettings, lambda settings: print(describe(merge(settings), settings.out))


def _convert() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.checkpoints.settings import ConvertSettings

    def call(settings: ConvertSettings) -> None:
        from vp_agent.checkpoints.convert import convert  # torch, not needed for --help

        made = convert(settings)
        print("\n".join(f"{name}: {value}" for name, value in made.about.items()))
        print(made.folder)

    return ConvertSettings, call


def _report() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.report import write_report

    return ReportSettings, lambda settings: print(write_report(*settings.folders, out=settings.out))


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
    from vp_agent.bench import BenchSettings, bench

    return BenchSettings, bench


def _data_cache() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.train.caching import CacheSettings, cache

    return CacheSettings, lambda settings: print(*cache(settings), sep="\n")


DATA_VERBS = {
    "convert": ("turn HDF5 files of robomimic or RoboCasa into a dataset", _data_convert),
    "check": ("name what is wrong with a dataset", _data_check),
    "stats": ("print the size, tasks and ranges of a dataset", _data_stats),
    "show": ("draw a contact sheet of a dataset", _data_show),
    "cache": ("encode a dataset's latents ahead of training", _data_cache),
}
VERBS = {
    "demo": ("fly the packaged agent and write a report", _demo),
    "envs": ("list the environments, and what is missing for those that cannot run", _envs),
    "doctor": ("check this machine: rendering, simulators, decoding, GPU, disk", _doctor),
    "install": ("make a virtual environment with a simulator", _install),
    "collect": ("record scripted demonstrations as a LeRobot dataset", _collect),
    "data": ("convert, check, measure, show and encode datasets", DATA_VERBS),
    "train": ("train the video stage or the action stage", _train),
    "eval": ("fly an agent for many episodes and count its successes", _eval),
    "merge": ("join the journals of one evaluation that several machines have shared", _merge),
    "bench": ("measure how long a plan takes on this machine", _bench),
    "convert": ("turn a released checkpoint into an agent folder", _convert),
    "report": ("turn evaluation folders into one page, beside the paper's tables", _report),
    "compare": ("compare policies on the same episodes: McNemar, non-inferiority", _compare),
    "audit": ("compare imagined with executed frames: was it the video or the actions?", _audit),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code (2 for a user's error, 128 + n for a signal)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get("VP_AGENT_DEBUG") == "1"
    arguments = [argument for argument in arguments if argument != "--debug"]
    if argv is None:  # as a program, not called by one
        end_on_signals()
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to flush
        return 128 + signal.SIGPIPE
    except (VPAgentError, OSError) as error:
        if debug or (isinstance(error, OSError) and not _is_the_users(error)):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as ended:
        if debug:
            raise
        print(f"interrupted{f' by {ended}' if ended.args else ''}", file=sys.stderr)
        return getattr(ended, "code", 128 + signal.SIGINT)


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        import vp_agent

        print(vp_agent.__version__)
        return 0
    return _run_verb(arguments, VERBS, "vp-agent")


def _run_verb(arguments: list[str], verbs: Mapping[str, tuple[str, Any]], prog: str) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(verbs, prog))
        return 0 if arguments else 2
    verb = arguments[0]
    if verb not in verbs:
        known = f"(verbs: {', '.join(verbs)})"
        raise UnknownNameError(f"no verb {verb!r}{closest(verb, verbs)} {known}")
    load, flags = verbs[verb][1], arguments[1:]
    if isinstance(load, Mapping):
        return _run_verb(flags, load, f"{prog} {verb}")
    settings_class, call = load()
    if verb == "train":
        from vp_agent.train.recipes import with_recipe

        flags = with_recipe(flags)
    code = call(tyro.cli(settings_class, args=flags, prog=f"{prog} {verb}"))
    return code if isinstance(code, int) else 0


def _usage(verbs: Mapping[str, tuple[str, Any]], prog: str) -> str:
    width = max(map(len, verbs))
    listed = "\n".join(f"  {name:<{width}}  {summary}" for name, (summary, _) in verbs.items())
    return (
        f"usage: {prog} VERB [options]\n\n"
        f"{listed}\n\n"
        f"{prog} VERB --help shows a verb's options; --debug shows the traceback of an error."
    )


def _nobody_reads() -> bool:
    """Whether what is printed goes into a closed pipe: `vp-agent envs | head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def _is_the_users(error: OSError) -> bool:
    return isinstance(error, VPAgentError) or error.errno in _OS_ERRORS


if __name__ == "__main__":
    sys.exit(main())
