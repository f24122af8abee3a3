"""Diffusion Policy: an encoder per view and the instruction condition a 1-D U-Net on actions.

The paper's baselines (appendix A.3). The parts are transformers' image encoders and text tower,
diffusers' noise schedule and our action U-Net, which with Mish is Diffusion Policy's (a test
compares it with LeRobot's).
"""

# B batch, N action draws that share one context, V views, C channels, H W pixels
# K action steps, A action dim, D text width, G context width

from collections.abc import Sequence

import torch
from accelerate import init_empty_weights
from diffusers import DDIMScheduler
from diffusers.models.embeddings import Timesteps
from einops import rearrange, repeat
from torch import Tensor, nn
from transformers import CLIPTokenizer

from vp_agent.diffusion_policy_config import DdimConfig, DiffusionPolicyConfig
from vp_agent.model.action_unet import ActionUNet
from vp_agent.model.text import byte_tokenizer, encode_text, text_tower
from vp_agent.model.view_encoder import ViewEncoder
from vp_agent.torch_defaults import torch_defaults


class NoisePredictor(nn.Module):
    """The action U-Net with Diffusion Policy's own embedding of the noise level."""

    def __init__(self, config: DiffusionPolicyConfig, *, context_width: int) -> None:
        super().__init__()
        width = config.action_head.step_width
        self.steps = Timesteps(width, flip_sin_to_cos=False, downscale_freq_shift=1)
        self.time = nn.Linear(width, 4 * width)
        self.unet = ActionUNet(
            config.action_head,
            action_dim=config.action_dim,
            condition_width=context_width,
            time_width=4 * width,
            activation=nn.Mish,
        )

    def forward(self, actions_BKA: Tensor, step_B: Tensor, context_BG: Tensor) -> Tensor:
        time_BE = self.time(self.steps(step_B).to(self.time.weight.dtype))
        return self.unet(actions_BKA.to(time_BE.dtype), time_BE, context_BG).float()


class DiffusionPolicy(nn.Module):
    """Text tower, one image encoder per view and the noise predictor of one configuration."""

    @torch_defaults(device=False)
    def __init__(
        self, config: DiffusionPolicyConfig, *, tokenizer: CLIPTokenizer | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer or byte_tokenizer()
        self.text_encoder = text_tower(config.text_encoder, self.tokenizer)
        encoders = [ViewEncoder(config) for _ in config.views]
        self.encoders = nn.ModuleList(encoders)
        text_width: int = self.text_encoder.text_projection.out_features
        self.action_head = NoisePredictor(
            config, context_width=sum(encoder.width for encoder in encoders) + text_width
        )

    @property
    def device(self) -> torch.device:
        return self.text_encoder.device

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Instructions to embeddings (B, 1, D)."""
        return encode_text(self.tokenizer, self.text_encoder, texts)

    def context(
        self, images_BVCHW: Tensor, text_B1D: Tensor, shift_BV2: Tensor | None = None
    ) -> Tensor:
        """What the chunk is conditioned on (B, G): each view's features, then the instruction's.

        Args:
            images_BVCHW: the current views, in [-1, 1].
            text_B1D: of `encode_text`.
            shift_BV2: where each image is cut (see `ViewEncoder`); None: in the middle.
        """
        features = [
            encoder(images_BVCHW[:, v], None if shift_BV2 is None else shift_BV2[:, v])
            for v, encoder in enumerate(self.encoders)
        ]
        return torch.cat([*features, text_B1D[:, 0].to(features[0].dtype)], dim=-1)

    def predict_noise(self, actions_BNKA: Tensor, step_BN: Tensor, context_BG: Tensor) -> Tensor:
        """The noise in N noisy chunks of each context, (B, N, K, A)."""
        draws = actions_BNKA.shape[1]
        noise = self.action_head(
            rearrange(actions_BNKA, "b n k a -> (b n) k a"),
            step_BN.flatten(),
            repeat(context_BG, "b g -> (b n) g", n=draws),
        )
        return rearrange(noise, "(b n) k a -> b n k a", n=draws)


def noise_schedule(config: DiffusionPolicyConfig) -> DDIMScheduler:
    """The noise levels as diffusers knows them, for training and for sampling."""
    noise = config.noise
    return DDIMScheduler(
        num_train_timesteps=noise.train_steps,
        beta_start=noise.beta_start,
        beta_end=noise.beta_end,
        beta_schedule=noise.beta_schedule,
        clip_sample=True,
        prediction_type="epsilon",
    )


@torch.no_grad()
def sample_actions(
    model: DiffusionPolicy,
    images_BVCHW: Tensor,
    text_B1D: Tensor,
    *,
    tier: DdimConfig,
    noise_BKA: Tensor,
) -> Tensor:
    """Clean normalised actions (B, K, A) by DDIM, which draws no noise but the first."""
    context_BG = model.context(images_BVCHW, text_B1D)
    schedule = noise_schedule(model.config)
    schedule.set_timesteps(tier.steps)
    actions_BKA = noise_BKA
    for step in schedule.timesteps:
        step_B1 = step.to(noise_BKA.device).expand(len(noise_BKA), 1)
        noise = model.predict_noise(actions_BKA[:, None], step_B1, context_BG)[:, 0]
        actions_BKA = schedule.step(noise, int(step), actions_BKA).prev_sample  # type: ignore[union-attr]
    return actions_BKA


def blank_diffusion_policy(
    config: DiffusionPolicyConfig, *, tokenizer: CLIPTokenizer | None = None
) -> DiffusionPolicy:
    """A policy whose parameters have shapes and no values yet."""
    with init_empty_weights():
        return DiffusionPolicy(config, tokenizer=tokenizer)
