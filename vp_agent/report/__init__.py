"""The report of evaluations: results.json, report.md and one self-contained HTML page."""

from itertools import combinations
from pathlib import Path

from vp_agent.errors import ConfigError, OutputExistsError
from vp_agent.evaluation.journal import JOURNAL
from vp_agent.evaluation.paired import holm
from vp_agent.evaluation.pairing import ComparisonError, compare
from vp_agent.evaluation.reading import Evaluation, read_evaluations
from vp_agent.evaluation.results import RESULTS
from vp_agent.files import check_makeable, write_json, write_text
from vp_agent.report.beside import beside_the_paper, rows_of
from vp_agent.report.page import Page, Pair, html, markdown
from vp_agent.report.results import view

SEVERAL = Path("outputs/report")  # where the page of several evaluations goes


def write_report(*paths: Path, out: Path | None = None) -> Path:
    """Writes `results.json`, `report.md` and `report.html`; returns the path of the page.

    The page holds its films and plots, so it can be mailed or opened without a network.

    Args:
        paths: Evaluation folders or journals, each a policy.
        out: Where to write; by default into the folder, for several into `outputs/report`.

    Raises:
        VPAgentError: a folder holds no evaluation that can be read.
    """
    if not paths:
        raise ConfigError("report needs an evaluation folder: vp-agent report DIR")
    evaluations = read_evaluations([Path(path) for path in paths])
    if out is None:
        out = evaluations[0].folder if len(paths) == 1 and Path(paths[0]).is_dir() else SEVERAL
    check_makeable(out)
    its_own = len(paths) == 1 and out.resolve() == Path(paths[0]).resolve()
    if (out / JOURNAL).exists() and not its_own:
        raise OutputExistsError(
            f"{out} is an evaluation, and this would replace its {RESULTS}; choose another --out"
        )
    views = [view(evaluation) for evaluation in evaluations]
    rows = rows_of([evaluation.records for evaluation in evaluations])
    page = Page(
        views=views,
        rows=rows,
        besides=beside_the_paper(rows, [each.protocol for each in views]),
        pairs=_pairs(evaluations),
    )
    out.mkdir(parents=True, exist_ok=True)
    numbers = [each.results for each in views]
    write_json(out / RESULTS, numbers[0] if len(numbers) == 1 else {"evaluations": numbers})
    write_text(out / "report.md", markdown(page))
    write_text(out / "report.html", html(page))
    return out / "report.html"


def _pairs(evaluations: list[Evaluation]) -> list[Pair]:
    """Every two evaluations on their common episodes, or why they cannot be paired."""
    pairs = []
    for a, b in combinations(evaluations, 2):
        try:
            pairs.append(Pair(a=a.name, b=b.name, comparison=compare(a, b)))
        except ComparisonError as error:
            pairs.append(Pair(a=a.name, b=b.name, refused=str(error)))
    made = [pair for pair in pairs if pair.comparison]
    adjusted = holm([pair.comparison.total.mcnemar_p for pair in made if pair.comparison])
    for pair, p in zip(made, adjusted, strict=True):
        pair.p_holm = p
    return pairs
