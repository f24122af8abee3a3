"""Where an agent is: in a folder, in this package, or on the Hugging Face Hub."""

import re
from pathlib import Path

from vp_agent.errors import AgentFolderError, closest
from vp_agent.files import MANIFEST

PACKAGED = Path(__file__).parent / "packaged"
LEROBOT_WEIGHTS = "model.safetensors"  # of a policy that LeRobot saved


def locate(name: str | Path, *, revision: str | None = None) -> Path:
    """The agent folder that `name` stands for.

    Args:
        name: "packaged:NAME", a folder, or a Hub repository, "owner/name" or "owner/name@revision".
        revision: branch, tag or commit of a Hub repository.

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
    # A tenth of a second that nothing here needs.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        repository, named = split_revision(text)
        return Path(snapshot_download(repository, revision=revision or named))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise AgentFolderError(
            f"{text!r} is no folder here and no agent on the Hub ({type(error).__name__}); give a "
            "folder, packaged:lift, or a Hub repository you can reach"
        ) from error


def split_revision(name: str) -> tuple[str, str | None]:
    """Repository and revision of "owner/name@revision"; None where no revision is named."""
    repository, _, revision = name.partition("@")
    return repository, revision or None


def hub_source(name: str | Path, folder: Path, *, revision: str | None = None) -> str:
    """What `locate` downloaded to `folder`, as "owner/name@commit"; "" of what was here."""
    if str(name).startswith("packaged:") or Path(name).is_dir():
        return ""
    repository, named = split_revision(str(name))
    # The Hub's cache names a folder by its commit.
    commit = folder.name if folder.parent.name == "snapshots" else revision or named or "main"
    return f"{repository}@{commit}"


def find_agent(folder: Path) -> Path:
    """The agent folder in `folder`: itself, a checkpoint's, or the latest of a training run.

    The same for what LeRobot's trainer writes.
    """
    candidates = [folder, folder / "agent", folder / "pretrained_model"]
    candidates.append(folder / "checkpoints" / "last" / "pretrained_model")
    if (folder / "latest").is_file():
        with open(folder / "latest", errors="replace") as file:
            latest = file.read(100).strip()
        if re.fullmatch(r"step-\d+", latest):  # of this run, and no path out of it
            candidates.append(folder / latest / "agent")
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
