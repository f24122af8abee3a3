"""Whether a dataset's videos decode to the last frame: looked at once, and remembered."""

import av
from tqdm import tqdm

from vp_agent.errors import DatasetError
from vp_agent.train.clips import strict_frames
from vp_agent.train.contents import content_hashes
from vp_agent.train.dataset import Demonstrations

STAMPS = "vp_cache/decoded"  # an empty file, named by its content, for every video that decoded


def check_decoding(data: Demonstrations, *, rank: int = 0, world: int = 1) -> None:
    """Decodes every video of the policy's views that is not known to be whole.

    LeRobot's decoders put something plausible where a video is damaged. Of `world` processes each
    looks at its own share of the files.

    Raises:
        DatasetError: one is damaged; it is named.
    """
    folder = data.root / STAMPS
    videos = [x for view in data.layout.views for x in (data.root / "videos" / view).rglob("*.mp4")]
    mine = sorted(videos)[rank::world]
    hashes = content_hashes(data.root, mine).values()
    stamps = {path: folder / content for path, content in zip(mine, hashes, strict=True)}
    unknown = [path for path, stamp in stamps.items() if not stamp.exists()]
    for path in tqdm(unknown, desc="check videos", unit="file", leave=False):
        count = 0
        try:
            for _ in strict_frames(path):
                count += 1
        except (OSError, av.FFmpegError, IndexError) as error:  # the last: no video stream
            raise DatasetError(
                f"{path} is damaged: frame {count} cannot be decoded ({error}); copy the dataset "
                f"again; all that is damaged: vp-agent data check {data.root}"
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        stamps[path].touch()
