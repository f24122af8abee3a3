"""The network: one U-Net evaluation and what the action head makes of its feature maps.

The parts are diffusers' and transformers' own classes (U-Net, VAE, text tower) and ours (adapter,
action U-Net); their sizes come from a `VideoPolicyConfig`, nothing else differs between agents.
"""

# B batch, V views, T frames per view, S = 1 + V T slots, C latent channels, H W pixels, h w latent
# K action steps, A action dim, N action draws that share one video, D text width, E time width

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import init_empty_weights
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from einops import rearrange, repeat
from torch import Tensor, nn
from transformers import CLIPTokenizer

from vp_agent.config import VideoPolicyConfig
from vp_agent.errors import require
from vp_agent.model import canvas
from vp_agent.model.action_unet import ActionUNet
from vp_agent.model.adapter import Adapter, output_width
from vp_agent.model.shortcuts import shorten
from vp_agent.model.taps import collect_taps
from vp_agent.model.text import byte_tokenizer, encode_text, text_tower
from vp_agent.randomness import mix
from vp_agent.torch_defaults import torch_defaults

GROUP_NORM_EPS = 1e-5  # the published U-Net's; diffusers mixes 1e-6 and 1e-5


class VideoPolicy(nn.Module):
    """Video U-Net, VAE, text tower, adapter and action head of one configuration."""

    @torch_defaults(device=False)
    def __init__(
        self, config: VideoPolicyConfig, *, tokenizer: CLIPTokenizer | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.unet = make_unet(
            {"num_frames": config.slots, "sample_size": config.latent_shape[1], **config.unet}
        )
        modules = dict(self.unet.named_modules())
        for tap in config.adapter.taps:
            require(tap.module in modules, f"adapter.taps: the U-Net has no module {tap.module!r}")
        self.vae = AutoencoderKLTemporalDecoder(**config.vae).requires_grad_(False)
        self.condition_vae: AutoencoderKLTemporalDecoder | None = None
        if config.condition_encoder:
            encoder = AutoencoderKLTemporalDecoder(**config.vae).requires_grad_(False)
            # Condition images are never decoded.
            encoder.decoder = nn.Identity()  # type: ignore[assignment]
            self.condition_vae = encoder
        self.tokenizer = tokenizer or byte_tokenizer()
        self.text_encoder = text_tower(config.text_encoder, self.tokenizer)
        time_width = self.unet.time_embedding.linear_2.out_features
        self.adapter = Adapter(config.adapter, views=len(config.views), time_width=time_width)
        self.action_head = ActionUNet(
            config.action_head,
            action_dim=config.action_dim,
            condition_width=output_width(
                config.adapter, frames=config.frames_per_view, latent_hw=config.latent_shape[1:]
            ),
            time_width=time_width,
        )

    @property
    def device(self) -> torch.device:
        return self.unet.device

    def forward(
        self,
        video_BSChw: Tensor,
        condition_BSChw: Tensor,
        text_B1D: Tensor,
        c_noise_B: Tensor,
        actions_BNKA: Tensor | None = None,
        *,
        c_noise_action_B: Tensor | None = None,
        with_video: bool = True,
        stop_action_gradient: bool = False,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Network outputs F for the video (B, S, C, h, w) and, if given, the actions (B, N, K, A).

        Args:
            video_BSChw: noisy latents, already scaled by c_in.
            text_B1D: instruction embeddings, one cross-attention token each.
            condition_BSChw: latents of the current views, in every slot of their view.
            c_noise_B: ln(sigma) / 4, the same for both streams unless the actions have their own.
            actions_BNKA: noisy normalised actions, scaled by c_in; N draws share one video.
            c_noise_action_B: ln(sigma) / 4 of the actions, where it is not the video's.
            with_video: False leaves out the U-Net's last layers and gives no video output.
            stop_action_gradient: keep the action loss out of the U-Net (paper section 3.3).
        """
        dtype = self.unet.dtype  # weights may be bfloat16; what comes in and out is float32
        taps_wanted = [tap.module for tap in self.config.adapter.taps]
        video = None
        with collect_taps(self.unet, taps_wanted, stop=not with_video) as taps:
            video = self.unet(
                torch.cat([video_BSChw, condition_BSChw], dim=2).to(dtype),
                c_noise_B,
                encoder_hidden_states=text_B1D.to(dtype),
                added_time_ids=self._added_ids(video_BSChw),
            ).sample.float()
        if actions_BNKA is None:
            return video, None
        time_BE = action_time_BE = self._time(c_noise_B)
        if c_noise_action_B is not None:
            action_time_BE = self._time(c_noise_action_B)
        if stop_action_gradient:
            taps[:] = [tap.detach() for tap in taps]
            time_BE, action_time_BE = time_BE.detach(), action_time_BE.detach()
        views = [self._by_view(tap, len(video_BSChw)) for tap in taps]
        features_BG = self.adapter(views, time_BE).flatten(1)
        draws = actions_BNKA.shape[1]
        actions = self.action_head(
            rearrange(actions_BNKA, "b n k a -> (b n) k a").to(dtype),
            repeat(action_time_BE, "b e -> (b n) e", n=draws),
            repeat(features_BG, "b g -> (b n) g", n=draws),
        )
        return video, rearrange(actions.float(), "(b n) k a -> b n k a", n=draws)

    def _time(self, c_noise_B: Tensor) -> Tensor:
        embedding = self.unet.time_embedding
        return embedding(self.unet.time_proj(c_noise_B).to(embedding.linear_1.weight.dtype))

    def _by_view(self, tap: Tensor, batch: int) -> Tensor:
        slots = rearrange(tap, "(b s) c h w -> b s c h w", b=batch)
        return rearrange(
            canvas.split(slots, views=len(self.config.views)), "b v t c h w -> b v c t h w"
        )

    def _added_ids(self, like: Tensor) -> Tensor:
        c = self.config.conditioning
        ids = torch.tensor(
            [c.fps_id, c.motion_bucket_id, c.image_noise], dtype=torch.float32, device=like.device
        )
        return ids.expand(len(like), 3)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Instructions to cross-attention tokens (B, 1, D)."""
        return encode_text(self.tokenizer, self.text_encoder, texts)

    @torch.no_grad()
    def encode_frames(self, frames_BCHW: Tensor) -> Tensor:
        """Latent moments (B, 2C, h, w), mean then log-variance, of images in [-1, 1]."""
        return encode(self.vae, frames_BCHW, patch=self.config.vae_patch)

    @torch.no_grad()
    def encode_condition(self, frames_BCHW: Tensor) -> Tensor:
        """Moments as of `encode_frames`, by the condition images' own encoder if there is one."""
        return encode(self.condition_vae or self.vae, frames_BCHW, patch=self.config.vae_patch)

    def target_latents(self, moments: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """The U-Net's clean latents (..., C, h, w) from moments (..., 2C, h, w).

        The posterior's mean, or with `noise` a sample of it.
        """
        latents, logvar = moments.chunk(2, dim=-3)
        if noise is not None:
            latents = latents + (logvar.clamp(-30, 20) / 2).exp() * noise
        return latents * self.vae.config["scaling_factor"]

    def condition_latents(self, moments: Tensor) -> Tensor:
        """Condition latents (..., C, h, w) from moments: the mean, unscaled as SVD has it."""
        scale = self.config.conditioning.scale_latents
        mean = moments.chunk(2, dim=-3)[0]
        return mean * self.vae.config["scaling_factor"] if scale else mean

    @torch.no_grad()
    def decode_video(self, video_BSChw: Tensor) -> Tensor:
        """Clean latents of the canvas to frames (B, V, T, 3, H, W) in [-1, 1], view by view."""
        views = canvas.split(video_BSChw, views=len(self.config.views))
        clips = rearrange(views, "b v t c h w -> (b v t) c h w") / self.vae.config["scaling_factor"]
        frames = decode(self.vae, clips, num_frames=views.shape[2], patch=self.config.vae_patch)
        return rearrange(frames, "(b v t) c h w -> b v t c h w", v=views.shape[1], t=views.shape[2])


def make_unet(arguments: Mapping[str, Any]) -> UNetSpatioTemporalConditionModel:
    """Stable Video Diffusion's U-Net with the published normalisation and exact shortcuts."""
    unet = UNetSpatioTemporalConditionModel(**arguments)
    for name, module in unet.named_modules():
        if isinstance(module, nn.GroupNorm) and ".resnets." in f".{name}.":
            module.eps = GROUP_NORM_EPS
    shorten(unet)
    return unet


def encode(vae: AutoencoderKLTemporalDecoder, frames_BCHW: Tensor, *, patch: int) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] to moments (B, 2C, h, w)."""
    folded = F.pixel_unshuffle(frames_BCHW.to(vae.dtype), patch)
    posterior: Any = vae.encode(folded).latent_dist  # type: ignore[union-attr]
    return posterior.parameters


def decode(
    vae: AutoencoderKLTemporalDecoder, latents_BChw: Tensor, *, num_frames: int, patch: int
) -> Tensor:
    """Unscaled latents of clips of `num_frames` frames to images (B, 3, H, W), float32."""
    decoded: Any = vae.decode(latents_BChw.to(vae.dtype), num_frames=num_frames)
    return F.pixel_shuffle(decoded.sample.float(), patch)


def blank_policy(
    config: VideoPolicyConfig, *, tokenizer: CLIPTokenizer | None = None
) -> VideoPolicy:
    """A policy whose parameters have shapes and no values yet; at full size that saves 8 GB."""
    with init_empty_weights():
        return VideoPolicy(config, tokenizer=tokenizer)


@torch_defaults()
def init_heads(model: VideoPolicy, *, seed: int) -> None:
    """Fresh weights for the adapter and the action head of a blank policy."""
    # They come from torch's global generator: set it here only, and put it back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, "heads"))
        for head in (model.adapter, model.action_head):
            for module in head.to_empty(device="cpu").modules():
                reset = getattr(module, "reset_parameters", None)
                if reset is not None:
                    reset()


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
