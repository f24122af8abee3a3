"""What keeps an evaluation from being reported."""

from collections.abc import Iterator

from vp_agent.evaluation.reading import Evaluation, values

# Lines of one table agree on these, or the table mixes policies, protocols or machines.
_ONE_OF_EACH = {
    "agent": "agents",
    "policy": "policies",
    "suite": "suites",
    "suite_version": "suite versions",
    "schema": "journal schemas",
    "package": "versions of vp-agent",
    "simulator": "simulator versions",
    "gl": "renderers",
    "gpu": "GPUs",
    "tier": "sampler tiers",
    "sampler": "sampler settings",
    "blank_images": "settings of blank_images",
    "fresh_env": "settings of fresh_env",
    "env_kwargs": "environment settings",
}


def doubts(evaluation: Evaluation) -> Iterator[str]:
    """One sentence for each reason not to report the numbers; none for a sound evaluation."""
    records = evaluation.records
    settled = sum(record["success"] is not None for record in records)
    if evaluation.scheduled is None:
        yield (
            "It has not ended: no results.json says how many episodes were scheduled. "
            "Run the same vp-agent eval with --resume."
        )
    elif settled < evaluation.scheduled:
        yield f"Incomplete: {settled} of {evaluation.scheduled} scheduled episodes are settled."
    if errors := len(records) - settled:
        yield f"Infrastructure errors, counted neither as success nor as failure: {errors}."
    standins = sum(bool(record["standin"]) for record in records)
    if standins:
        yield f"Episodes flown with stand-in assets: {standins}."
    if any(record.get("blank_images") for record in records):
        yield "Control run: the agent was given black images; films show what it did not see."
    for field, plural in _ONE_OF_EACH.items():
        found = values(records, field)
        if len(found) > 1:
            yield f"It mixes {len(found)} {plural}: {', '.join(found)}."
