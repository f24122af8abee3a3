"""What `data check` finds of damage that no table shows. Results: benchmarks/data_faults.md.

python benchmarks/data_fault_sets.py /tmp/clean
python benchmarks/data_faults.py --clean /tmp/clean --scratch /tmp/damaged
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from vp_agent.train.check import find_damage

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import episode_damage
from episode_damage import ACTIONS, NO_STATE, PICTURES, Copy

AT_ONCE = 10  # episodes of a set that are damaged
WITHOUT_STATE = (
    "actions 6 steps late",
    "actions of two episodes swapped",
    "all actions 3 steps late",
)


@dataclass(frozen=True)
class Settings:
    """What to do."""

    clean: Path
    """Folder of the clean datasets."""
    scratch: Path
    """Folder for damaged copies."""
    half: int = 1
    """Episodes of which half are damaged; thresholds were fixed on 0."""
    sets: tuple[str, ...] = ("lift", "stack", "door", "random", "drawn")
    """Datasets."""
    only: str = ""
    """Damages whose name holds this."""
    out: Path | None = None
    """JSON file of the counts."""


def main(settings: Settings) -> None:
    """Prints, for each damage and dataset, episodes found of those damaged, and false alarms."""
    shown = [*PICTURES, "views exchanged"]
    without = [name + NO_STATE for name in ("nothing", *WITHOUT_STATE)]
    damages = [d for d in ("nothing", *ACTIONS, *shown, *without) if settings.only in d]
    counts: dict[str, dict[str, Any]] = {}
    for damage in damages:
        for name in settings.sets:
            copy = Copy(settings.clean / name, settings.scratch / name)
            half = len(copy.files.episodes) // 2
            hurt = [settings.half * half + i * half // AT_ONCE for i in range(AT_ONCE)]
            episode_damage.damage(copy, damage, hurt)
            everywhere = damage.startswith("all ")
            hurt = [] if damage.startswith("nothing") else hurt
            started = time.process_time()
            findings = find_damage(copy.root, videos=damage not in ACTIONS)
            seconds = time.process_time() - started
            named = {e for f in findings if (e := episode_of(f.where)) is not None}
            general = [f for f in findings if episode_of(f.where) is None]
            found = len(general) if everywhere else len(named & set(hurt))
            false = len(named - set(hurt)) + len(general) * (not everywhere)
            of = 1 if everywhere else len(hurt)
            counts.setdefault(damage, {})[name] = {"found": found, "of": of, "false": false}
            checks = sorted({f.check for f in findings})
            print(f"{damage} | {name} | {found}/{of} | false {false} | {seconds:.1f} s | {checks}")
            for finding in findings:
                episode = episode_of(finding.where)
                if episode not in hurt and not everywhere:
                    print("   false:", finding)
            if settings.out:
                settings.out.write_text(json.dumps(counts, indent=1))


def episode_of(where: str) -> int | None:
    """The episode that a finding names."""
    _, found, rest = where.partition(", episode ")
    return int(rest.split(",")[0]) if found else None


if __name__ == "__main__":
    main(tyro.cli(Settings))
