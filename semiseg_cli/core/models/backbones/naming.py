"""Names of parameters: what publishers of vision transformers call them, and what only classifiers have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

TRANSFORMERS = (  # Hugging Face's DINOv2, with or without registers
    (r"^dinov2(_with_registers)?\.", ""),
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.attention\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)


def named_by_timm(tensors: Mapping[str, Tensor], *, merged: bool) -> dict[str, Tensor]:
    """Tensors by timm's names, from Meta's (which are timm's but for registers) or Hugging Face transformers'.

    merged: of a network whose position table has entries for patches alone. In a file with registers by Meta's names
    the class token's entry still stands in it: it is added to that token. What is not understood is left as it is.
    """
    named = dict(tensors)
    if any(name.endswith("embeddings.position_embeddings") for name in named):
        named = _joined({_replaced(name): tensor for name, tensor in named.items()})
    if merged and {"register_tokens", "cls_token", "pos_embed"} <= named.keys():
        named["reg_token"] = named.pop("register_tokens")
        named["cls_token"] = named["cls_token"] + named["pos_embed"][:, :1]
        named["pos_embed"] = named["pos_embed"][:, 1:]
    return named


def left_out(whole: Iterable[str], kept: Iterable[str]) -> tuple[str, ...]:
    """The shortest beginnings, of whole parts of names, that say what is in `whole` and not in `kept`."""
    kept, found = list(kept), set[str]()
    for name in set(whole) - set(kept):
        parts = name.split(".")
        starts = [".".join(parts[:count]) + "." * (count < len(parts)) for count in range(1, len(parts) + 1)]
        found.add(next(start for start in starts if not any(other.startswith(start) for other in kept)))
    return tuple(sorted(found))


def _replaced(name: str) -> str:
    for theirs, ours in TRANSFORMERS:
        name = re.sub(theirs, ours, name)
    return name


def _joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With query, key and value of every block as one linear map."""
    joined = dict(tensors)
    for name in tensors:
        parts = [name.replace(".attn.query.", f".attn.{part}.") for part in ("query", "key", "value")]
        if ".attn.query." in name and joined.keys() >= set(parts):
            joined[name.replace(".query.", ".qkv.")] = torch.cat([joined.pop(part) for part in parts])
    return joined
