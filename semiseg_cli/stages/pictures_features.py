"""Pictures of a network's features: those before the classifier, laid out in the plane by t-SNE, coloured by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import UsageError
from semiseg_cli.core.inference.evaluation import load_labeled
from semiseg_cli.core.models.segmenter import Segmenter
from semiseg_cli.core.ops.register import sample
from semiseg_cli.core.ops.sizes import fit_image
from semiseg_cli.core.places import find_root
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.distributed import join
from semiseg_cli.core.viz.scatter import Scatter
from semiseg_cli.core.viz.sheets import Gallery, Row
from semiseg_cli.stages.evaluate import same_classes
from semiseg_cli.stages.progress import Progress
from semiseg_cli.stages.visualize_predictions import legend_of, nothing_to_show, stands

POINTS = 256  # of every class, as S4MIM's figure 5 and STPG's figure 7 have it
PERPLEXITY = 30.0
Array = np.ndarray[Any, Any]


def features(
    networks: Mapping[str, Path], root: Path | None, count: int, seed: int, device: str, progress: Progress
) -> tuple[Gallery, dict[str, Any]]:
    """The decoder's features at up to POINTS pixels of every class, from `count` validation images drawn by `seed`.

    Raises UsageError without scikit-learn (the extra `tsne`), DataError where no validation pixel is labeled.
    """
    tsne = require_tsne()
    ((_, path),) = networks.items()
    place = join(device).device
    net, meta = load_network(path, place)
    dataset = load_dataset(find_root(meta["data"]["name"], root, path), meta["data"]["name"])
    same_classes(dataset, meta["data"]["classes"], path)
    legend = legend_of(dataset, "")
    records = [record for record in dataset.val if record.mask is not None]
    rng = np.random.default_rng(seed)
    chosen = [records[i] for i in sorted(rng.permutation(len(records))[:count])]
    classes = len(dataset.classes)
    with progress(f"features on {dataset.name}", len(chosen)) as advance:
        found, label = [np.empty((0, net.widths["fused"]), np.float32)], [np.empty(0, np.int64)]
        for record in chosen:
            image, truth = load_labeled(record, classes, dataset.ignore)
            fused, of = vectors(net, image, truth, meta["normalise"]["mean"], meta["normalise"]["std"], place)
            kept = at_most(of, classes, POINTS, rng)
            found.append(fused[kept])
            label.append(of[kept])
            advance()
    points, of = np.concatenate(found), np.concatenate(label)
    kept = rng.permutation(at_most(of, classes, POINTS, rng))
    if len(kept) < 3:
        raise nothing_to_show(dataset)
    points, of = points[kept], of[kept]
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    plane = tsne(init="pca", perplexity=perplexity, random_state=seed).fit_transform(points)
    counts = dict(zip(dataset.classes, np.bincount(of, minlength=classes).tolist(), strict=True))
    return _gallery(plane, of, legend, meta, dataset.name, chosen, counts), {
        "checkpoint": str(path),
        "points": counts,
        "images": [{"id": record.id} for record in chosen],
    }


@torch.no_grad()
def vectors(
    net: Segmenter, image: Array, truth: Array, mean: Sequence[float], std: Sequence[float], device: torch.device
) -> tuple[Array, Array]:
    """The classifier's inputs, float32 (N, D), for all pixels of the features' grid, and their classes in the truth."""
    x = torch.from_numpy(image).to(device).permute(2, 0, 1).float() / 255
    centre, spread = (torch.tensor(values, device=device)[:, None, None] for values in (mean, std))
    x = fit_image(((x - centre) / spread)[None], net.multiple)
    fused = net.decode(net.encode(x), (x.shape[2], x.shape[3])).fused[0]
    of = sample(torch.from_numpy(truth)[None], (fused.shape[1], fused.shape[2]))[0]
    return fused.flatten(1).T.float().cpu().numpy(), of.flatten().long().numpy()


def at_most(label: Array, classes: int, count: int, rng: np.random.Generator) -> Array:
    """Places of up to `count` members of every class, drawn without repeats; labels of no class are left out."""
    members = [np.flatnonzero(label == k) for k in range(classes)]
    return np.concatenate([rng.permutation(each)[:count] for each in members])


def _gallery(
    plane: Array,
    label: Array,
    legend: Any,
    meta: dict[str, Any],
    name: str,
    chosen: Sequence[Record],
    counts: Mapping[str, int],
) -> Gallery:
    absent = [each for each, number in counts.items() if not number]
    subtitle = f"{name}: up to {POINTS} pixels a class of {len(chosen)} validation images, as the classifier gets them"
    caption = f"{meta['method']}, {stands(meta)}: {len(label)} points"
    caption += f"; in none of these images: {', '.join(absent)}" if absent else ""
    tile = Scatter(plane, label, legend.colours)
    return Gallery(
        f"Features of {meta['method']} (t-SNE)", subtitle, [""], [Row(caption, [tile])], legend, box=tile.shape[::-1]
    )


def require_tsne() -> Any:
    """scikit-learn's TSNE. Raises UsageError where it is not installed."""
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise UsageError(
            "pictures of features need scikit-learn, for t-SNE", why=str(error), fix="pip install 'semiseg[tsne]'"
        ) from error
    return TSNE
