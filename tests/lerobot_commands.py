"""Runs LeRobot's own commands, one after another in one process: importing LeRobot takes longest.

python lerobot_commands.py COMMANDS.json    # [["lerobot-train", "--policy.type=vp_agent", ...]]
"""

import json
import shutil
import sys
from importlib.metadata import entry_points
from pathlib import Path


def main(path: Path) -> None:
    for name, *arguments in json.loads(path.read_text()):
        if name == "copytree":
            shutil.copytree(*arguments, symlinks=True)
            continue
        (script,) = entry_points(group="console_scripts", name=name)
        sys.argv = [name, *arguments]
        script.load()()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
