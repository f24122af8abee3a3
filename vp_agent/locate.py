"""Where an agent is: in a folder, in this package, or on the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from vp_agent.errors import AgentFolderError, closest
from vp_agent.files import MANIFEST

PACKAGED = Path(__file__).parent / "packaged"
LEROBOT_WEIGHTS = "model.safetensors"  # of a policy that LeRobot saved


def locate(name: str | Path, *, revision: str | None = None) -> Path:
    """The agent folder that `name` stands for; `revision` is of a Hub repository.

    Raises:
        AgentFolderError: there is no such packaged agent, folder or Hub repository.
    """
    text = str(name)
    if text.startswith("packaged:"):
        wanted = text.removeprefix("packaged:")
        have = sorted(p.name for p in PACKAGED.iterdir() if p.is_dir()) if PACKAGED.is_dir() else []
        if wanted not in have:
            raise AgentFolderError(
                f"no packaged agent {wanted!r}{closest(wanted, have)}; packaged: {', '.join(have)}"
            )
        return PACKAGED / wanted
    if Path(name).is_dir():
        return find_agent(Path(name))
    try:
        return Path(snapshot_download(text, revision=revision))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise AgentFolderError(
            f"{text!r} is no folder here and no agent on the Hub ({type(error).__name__}); give a "
            "folder, packaged:lift, or a Hub repository you can reach"
        ) from error


def find_agent(folder: Path) -> Path:
    """The agent folder in `folder`: itself, a checkpoint's, or the latest of a training run.

    The same for what LeRobot's trainer writes.
    """
    candidates = [folder, folder / "agent", folder / "pretrained_model"]
    candidates.append(folder / "checkpoints" / "last" / "pretrained_model")
    if (folder / "latest").is_file():
        candidates.append(
            folder / (folder / "latest").read_text(errors="replace").strip() / "agent"
        )
    for candidate in candidates:
        if (candidate / MANIFEST).is_file() or is_lerobot_policy(candidate):
            return candidate
    raise AgentFolderError(
        f"{folder} holds no agent: expected an agent folder ({MANIFEST} in it), a checkpoint "
        "(step-XXXXXXXX), a run folder with a `latest` checkpoint, or LeRobot's pretrained_model"
    )


def is_lerobot_policy(folder: Path) -> bool:
    """Whether the folder is what LeRobot saved of a policy, and not one of ours."""
    return (folder / LEROBOT_WEIGHTS).is_file() and not (folder / MANIFEST).is_file()
