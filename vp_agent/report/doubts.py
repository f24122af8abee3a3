"""What keeps an evaluation from being reported."""

from collections.abc import Iterator, Sequence

from vp_agent.evaluation.reading import Evaluation, values
from vp_agent.evaluation.record import EpisodeRecord

# Lines of one table agree on these, or the table mixes policies, protocols or machines.
_ONE_OF_EACH = {
    "agent": "agents",
    "suite": "suites",
    "suite_version": "suite versions",
    "schema": "journal schemas",
    "package": "versions of vp-agent",
    "torch": "versions of torch",
    "simulator": "simulator versions",
    "gl": "renderers",
    "gl_version": "GL versions",
    "gpu": "GPUs",
    "device": "kinds of device",
    "threads": "numbers of threads",
    "tier": "sampler tiers",
    "sampler": "sampler settings",
    "blank_images": "settings of blank_images",
    "fresh_env": "settings of fresh_env",
    "env_kwargs": "environment settings",
}


def doubts(evaluation: Evaluation) -> Iterator[str]:
    """One sentence for each reason not to report the numbers; none for a sound evaluation."""
    records = evaluation.records
    settled = len(evaluation.ended)
    if evaluation.scheduled is None:
        yield (
            "It has not ended: neither schedule.json nor results.json says how many episodes "
            "were scheduled. "
            "Run the same vp-agent eval with --resume."
        )
    elif settled < evaluation.scheduled:
        yield f"Incomplete: {settled} of {evaluation.scheduled} scheduled episodes are settled."
    elif settled > evaluation.scheduled:
        yield f"{settled} episodes are settled, where {evaluation.scheduled} were scheduled."
    if errors := len(records) - settled:
        yield f"Infrastructure errors, counted neither as success nor as failure: {errors}."
    if others := other_robocasas(records):
        yield f"The paper's kitchens are RoboCasa 0.2's; this is RoboCasa {' and '.join(others)}."
    standins = sum(record.standin for record in records)
    if standins:
        yield f"Episodes flown with stand-in assets: {standins}."
    if any(record.blank_images for record in records):
        yield "Control run: the agent was given black images; films show what it did not see."
    for field, plural in _ONE_OF_EACH.items():
        found = values(evaluation.ended, field)
        if len(found) > 1:
            yield f"It mixes {len(found)} {plural}: {', '.join(found)}."


def other_robocasas(records: Sequence[EpisodeRecord]) -> list[str]:
    """The versions of RoboCasa in these records that are not the paper's 0.2."""
    found = {record.simulator.get("robocasa", "0.2") for record in records}
    return sorted(version for version in found if not version.startswith("0.2"))
