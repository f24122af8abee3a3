"""The command `vp-agent VERB`: errors in one line, exit codes, and what to type next."""

import errno
import os
import select
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence

from vp_agent.errors import UnknownNameError, VPAgentError, closest
from vp_agent.flags import parse
from vp_agent.processes import end_on_signals
from vp_agent.verbs import VERBS, Verb

# A full disk, a quota, a read-only or forbidden folder, a file where a folder is wanted: the
# user's to mend, not a bug.
_OS_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG}
_OS_ERRORS |= {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}
_OS_ERRORS |= {errno.ENAMETOOLONG, errno.ELOOP}

_Entry = Verb | tuple[str, Mapping[str, Verb]]  # a verb, or verbs of a verb's own


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


def _run_verb(arguments: list[str], verbs: Mapping[str, _Entry], prog: str) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(verbs, prog))
        return 0 if arguments else 2
    name, flags = arguments[0], arguments[1:]
    if name not in verbs:
        known = f"(verbs: {', '.join(verbs)})"
        near = closest(name, [*verbs, "--help", "--version"])
        raise UnknownNameError(f"no verb {name!r}{near} {known}")
    verb = verbs[name]
    if not isinstance(verb, Verb):
        return _run_verb(flags, verb[1], f"{prog} {name}")
    settings_class, call = verb.load()
    if name == "train":
        from vp_agent.train.recipes import with_recipe

        flags = with_recipe(flags)
    settings = parse(settings_class, flags, prog=f"{prog} {name}")
    code = call(settings)
    if isinstance(code, int) and code:
        return code
    following = verb.then(settings)
    if following:
        print(f"next: {shlex.join(['vp-agent', *following])}")
    return 0


def _usage(verbs: Mapping[str, _Entry], prog: str) -> str:
    width = max(map(len, verbs))
    about = {
        name: verb.about if isinstance(verb, Verb) else verb[0] for name, verb in verbs.items()
    }
    listed = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in about.items())
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
