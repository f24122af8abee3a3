"""Means of the losses between two lines of the log, in all and by noise level."""

import torch
from accelerate import Accelerator
from torch import Tensor

from vp_agent.train.losses import Losses

EDGES = (0.5, 2.0, 8.0)  # of sigma; ln sigma ~ N(1, 1.6^2) puts 14, 28, 33 and 25 % between them
BINS = ("sigma<0.5", "sigma<2", "sigma<8", "sigma>8")
NAMES = ("loss", "video", "action", *(f"{s}_{b}" for s in ("video", "action") for b in BINS))


class Meter:
    """Sums and counts since the last line; a stream that a stage does not have has no mean."""

    def __init__(self) -> None:
        self._sums = torch.zeros(len(NAMES), 2, dtype=torch.float32, device="cpu")

    def add(self, losses: Losses) -> None:
        """Counts one batch."""
        values = torch.stack(
            [x.detach().cpu() for x in (losses.total, losses.video, losses.action)]
        )
        rows = [_sum_and_count(values[:, None])]
        for value_B, sigma_B in (
            (losses.video_B, losses.sigma_video_B),
            (losses.action_B, losses.sigma_action_B),
        ):
            level_B = torch.bucketize(
                sigma_B.cpu(), torch.tensor(EDGES, dtype=torch.float32, device="cpu")
            )
            inside = level_B == torch.arange(len(BINS), dtype=torch.int64, device="cpu")[:, None]
            rows.append(_sum_and_count(value_B.cpu().where(inside, torch.nan)))
        self._sums += torch.cat(rows)

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over all processes since the last call."""
        sums = accelerator.reduce(self._sums.to(accelerator.device), "sum")
        self._sums = torch.zeros_like(self._sums)
        assert isinstance(sums, Tensor)
        pairs = zip(NAMES, sums.tolist(), strict=True)
        return {name: total / count for name, (total, count) in pairs if count}


def _sum_and_count(values: Tensor) -> Tensor:
    """(N, M) to (N, 2); what is not a number does not count."""
    counted = ~values.isnan()
    return torch.stack([values.nan_to_num().sum(1), counted.sum(1).float()], dim=1)
