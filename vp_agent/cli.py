"""The command `vp-agent VERB`; a verb's modules are imported only when it is called."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from vp_agent.errors import UnknownNameError, VPAgentError, closest

# A full disk, a quota, a read-only or forbidden folder: the user's to mend, not a bug.
_OS_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG}


@dataclass(frozen=True, kw_only=True)
class EnvsSettings:
    """Lists the environment ids, and for those that cannot run here the command that fixes it."""


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Writes report.html into the folder of an evaluation."""

    folder: tyro.conf.Positional[Path]
    """Folder that `vp-agent eval --out` made."""


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


def _train() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.train.settings import TrainSettings

    def call(settings: TrainSettings) -> None:
        from vp_agent.train.trainer import train  # torch and LeRobot, not needed for --help

        train(settings)

    return TrainSettings, call


def _eval() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.evaluation.runner import EvalSettings, evaluate
    from vp_agent.evaluation.statistics import describe

    return EvalSettings, lambda settings: print(describe(evaluate(settings)))


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

    return ReportSettings, lambda settings: print(write_report(settings.folder))


def _bench() -> tuple[type[Any], Callable[[Any], object]]:
    from vp_agent.bench import BenchSettings, bench

    return BenchSettings, bench


VERBS = {
    "demo": ("fly the packaged agent and write a report", _demo),
    "envs": ("list the environments, and what is missing for those that cannot run", _envs),
    "doctor": ("check this machine: rendering, simulators, decoding, GPU, disk", _doctor),
    "install": ("make a virtual environment with a simulator", _install),
    "collect": ("record scripted demonstrations as a LeRobot dataset", _collect),
    "train": ("train the video stage or the action stage", _train),
    "eval": ("fly an agent for many episodes and count its successes", _eval),
    "bench": ("measure how long a plan takes on this machine", _bench),
    "convert": ("turn a released checkpoint into an agent folder", _convert),
    "report": ("turn an evaluation folder into one HTML page", _report),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code (2 for a user's error, 130 for Ctrl-C)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or os.environ.get("VP_AGENT_DEBUG") == "1"
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return _run(arguments)
    except (VPAgentError, OSError) as error:
        if debug or (isinstance(error, OSError) and not _is_the_users(error)):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if debug:
            raise
        print("interrupted", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        import vp_agent

        print(vp_agent.__version__)
        return 0
    verb = arguments[0]
    if verb not in VERBS:
        known = f"(verbs: {', '.join(VERBS)})"
        raise UnknownNameError(f"no verb {verb!r}{closest(verb, VERBS)} {known}")
    settings_class, call = VERBS[verb][1]()
    settings = tyro.cli(settings_class, args=arguments[1:], prog=f"vp-agent {verb}")
    call(settings)
    return 0


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {summary}" for name, (summary, _) in VERBS.items())
    return (
        "usage: vp-agent VERB [options]\n\n"
        f"{verbs}\n\n"
        "vp-agent VERB --help shows a verb's options; --debug shows the traceback of an error."
    )


def _is_the_users(error: OSError) -> bool:
    return isinstance(error, VPAgentError) or error.errno in _OS_ERRORS


if __name__ == "__main__":
    sys.exit(main())
