"""Puts a trained agent into the package, with a model card that says where it comes from.

    python scripts/package_agent.py --run runs/lift-joint --name lift --trained "..."

Weights stay as they are; --results adds an evaluation to the card.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from vp_agent.card import model_card
from vp_agent.folder import load_agent, save_agent
from vp_agent.locate import PACKAGED, locate


@dataclass(frozen=True)
class Settings:
    """What to package."""

    run: str
    """Run folder, checkpoint or agent folder."""
    name: str
    """Name behind packaged: ."""
    trained: str | None = None
    """Data and stages in words, instead of what the trainer noted."""
    results: Path | None = None
    """results.json of an evaluation of these weights."""


def main(settings: Settings) -> None:
    """Writes vp_agent/packaged/NAME."""
    model = load_agent(locate(settings.run))
    results = [] if settings.results is None else [settings.results]
    if settings.trained is not None:
        model.config = model.config.replace(training=(settings.trained,))
    card = model_card(model.config, results=results)
    save_agent(model, PACKAGED / settings.name, card=card)


if __name__ == "__main__":
    main(tyro.cli(Settings))
