"""Puts a trained agent into the package, with a model card that says where it comes from.

    python scripts/package_agent.py --run runs/lift-joint --name lift --trained "..."

Weights and configuration stay as they are; --results adds an evaluation to the card.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from vp_agent.agent import PACKAGED, locate
from vp_agent.folder import load_agent, model_card, save_agent


@dataclass(frozen=True)
class Settings:
    """What to package."""

    run: str
    """Run folder, checkpoint or agent folder."""
    name: str
    """Name behind packaged: ."""
    trained: str
    """Data and stages, in words."""
    results: Path | None = None
    """results.json of an evaluation of these weights."""


def main(settings: Settings) -> None:
    """Writes vp_agent/packaged/NAME."""
    model = load_agent(locate(settings.run))
    about = {"Trained": settings.trained}
    if settings.results is not None:
        results = json.loads(settings.results.read_text())
        low, high = (100 * bound for bound in results["wilson_95"])
        about["Success"] = (
            f"{results['successes']} of {results['n']} unseen seeds "
            f"(95 % interval {low:.0f}-{high:.0f} %)"
        )
    save_agent(model, PACKAGED / settings.name, card=model_card(model.config, about=about))


if __name__ == "__main__":
    main(tyro.cli(Settings))
