"""`vp-agent envs` and `vp-agent doctor`: what runs here, and the command that mends the rest."""

import contextlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vp_agent.envs.families import FAMILIES, Family
from vp_agent.envs.interpreters import CONFIG_NAME, read_places
from vp_agent.envs.rendering import choose_gl, gl_fix
from vp_agent.envs.worker_messages import check_lacking
from vp_agent.envs.worker_process import Worker
from vp_agent.errors import VPAgentError, WorkerRefused

_DEMO = "robosuite"  # the family of the demo's environment
_WANTED_GB = 10  # a trained full-size agent with its optimizer does not fit into less
_DRAW = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom type='sphere' size='.5' rgba='1 0 0 1'/>"
    "<camera pos='0 -2 0' xyaxes='1 0 0 0 0 1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data, camera=0)
    assert renderer.render()[16, 16, 0] > 50, "the image is black"
"""

_ASK_S = 120.0


@dataclass(frozen=True, kw_only=True)
class DoctorSettings:
    """Checks this machine, one line and one fix each; exit code 2 if the demo cannot run here."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `fix` is the command to type, empty if all is well."""

    about: str
    says: str
    fix: str = ""
    optional: bool = False
    """Whether the demo runs without it: then a lack is a note."""

    def __str__(self) -> str:
        if not self.fix:
            return f"ok  {self.about:<12} {self.says}"
        mark, what = ("--", "if wanted") if self.optional else ("!!", "fix")
        return f"{mark}  {self.about:<12} {self.says}\n    {'':<12} {what}: {self.fix}"


class NotWell(VPAgentError, RuntimeError):
    """The doctor found something missing."""


def environment_lines() -> Iterator[str]:
    """Every environment id under its simulator, with what is missing; imports no simulator."""
    for family in FAMILIES:
        says, fix = _state(family)
        yield f"{family.name} ({len(family.environments)}): {says}{fix and f'; fix: {fix}'}"
        for name in family.environments:
            yield f"  {name}"


def doctor(settings: DoctorSettings) -> None:
    """Prints what it finds.

    Raises:
        NotWell: something that the demo needs is missing.
    """
    findings = []
    for finding in examine():
        findings.append(finding)
        print(finding, flush=True)
    wrong = [finding.about for finding in findings if finding.fix and not finding.optional]
    if wrong:
        raise NotWell(f"{len(wrong)} of {len(findings)} need attention: {', '.join(wrong)}")


def examine() -> Iterator[Finding]:
    """The findings, one after the other."""
    yield _python()
    yield _gl()
    for family in FAMILIES:
        says, fix = _state(family)
        if not fix:
            says, fix = _in_its_interpreter(family, says)
        yield Finding(
            family.name,
            says if fix else f"{len(family.environments)} environments, {says}",
            fix,
            optional=family.name != _DEMO,
        )
    yield _lerobot()
    yield _gpu()
    yield _disk()


def _state(family: Family) -> tuple[str, str]:
    """What to say of a simulator, and the command that mends it."""
    place = read_places().get(family.name)
    if place is None or place.python == "self":
        missing = family.missing()
        return ("ready", "") if missing is None else (missing.what, missing.fix)
    if shutil.which(place.python) is None:
        what = f"{CONFIG_NAME} names {place.python}, which is not there"
        return what, f"write the right python under [{family.name}] in {CONFIG_NAME}"
    return f"in workers of {place.python}", ""


def _in_its_interpreter(family: Family, says: str) -> tuple[str, str]:
    """The same of a simulator in workers, looked at by their interpreter."""
    place = read_places().get(family.name)
    if place is None or place.python == "self":
        return says, ""
    try:
        worker = Worker(place.python, env=place.env, deadline_s=_ASK_S)
        with contextlib.closing(worker):
            what, fix = worker.call(
                "lacking", deadline_s=_ASK_S, check=check_lacking, family=family.name
            )
    except WorkerRefused as error:
        return str(error), f"{place.python} -m pip install gymnasium numpy"
    except (VPAgentError, OSError) as error:
        return f"{place.python}: {error}", f"mend it, or change [{family.name}] in {CONFIG_NAME}"
    return (f"{what} (for {place.python})", fix) if what else (says, "")


def _python() -> Finding:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    if sys.version_info < (3, 12):
        what = f"{found}: flies agents; training needs 3.12"
        return Finding("python", what, "make setup", optional=True)
    return Finding("python", found)


def _gl() -> Finding:
    if importlib.util.find_spec("mujoco") is None:
        return Finding("rendering", "no mujoco here", "pip install 'vp-agent[robosuite]'")
    backend = choose_gl()
    code, said = _run(_DRAW)
    if code == 0:
        return Finding("rendering", f"MuJoCo draws with MUJOCO_GL={backend}")
    return Finding("rendering", f"MuJoCo cannot draw with MUJOCO_GL={backend} ({said})", gl_fix())


def _lerobot() -> Finding:
    if importlib.util.find_spec("lerobot") is None:
        what = "not installed: no training, no datasets"
        fix = "pip install 'vp-agent[lerobot]'  (Python >= 3.12)"
        return Finding("lerobot", what, fix, optional=True)
    code, _ = _run("import torchcodec")
    decoder = "torchcodec" if code == 0 else "PyAV (torchcodec finds no FFmpeg; that is fine)"
    return Finding("lerobot", f"installed; videos are decoded by {decoder}")


def _gpu() -> Finding:
    code, said = _run(
        "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    )
    if code != 0:
        return Finding("torch", f"cannot be imported ({said})", "pip install --upgrade torch")
    if said:
        return Finding("gpu", said)
    if shutil.which("nvidia-smi"):
        fix = f"{sys.executable} -m pip install --upgrade torch  (a build for this driver's CUDA)"
        return Finding("gpu", "there is a driver, but torch sees no GPU", fix, optional=True)
    return Finding("gpu", "none: small agents fly on the CPU, full-size ones need one")


def _disk() -> Finding:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    while not cache.exists():
        cache = cache.parent
    for folder in (Path.cwd(), cache):
        free = shutil.disk_usage(folder).free / 2**30
        if free < _WANTED_GB:
            what, fix = f"{free:.1f} GB free in {folder}", f"free {_WANTED_GB} GB there"
            return Finding("disk", f"{what}: too little to train", fix, optional=free > 1)
    return Finding("disk", f"more than {_WANTED_GB} GB free")


def _run(code: str) -> tuple[int, str]:
    """Exit status and last line of a piece of Python in a process of its own: it may crash."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S)
    except subprocess.TimeoutExpired:  # a GL driver may hang
        return 1, f"no answer in {_ASK_S:.0f} s"
    if done.returncode == 0:
        return 0, done.stdout.strip().rpartition("\n")[2]
    said = done.stderr.strip().rpartition("\n")[2]
    return done.returncode, said or f"exit status {done.returncode}"
