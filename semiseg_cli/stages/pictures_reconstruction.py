"""Pictures of masked image modelling: what a method hides of its images, and what it makes of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from semiseg_cli.core.methods.s4mim.streams import STREAMS
from semiseg_cli.core.training.preview import colours, pictured
from semiseg_cli.core.training.session import Session
from semiseg_cli.core.viz.sheets import Gallery, Row
from semiseg_cli.core.viz.tiles import Labels, Photo, Tile
from semiseg_cli.stages.pictures_steps import standing
from semiseg_cli.stages.visualize_predictions import legend_of

COLUMNS = ("image", "mask", "masked image", "reconstruction", "class groups")
HIDDEN, SEEN = 40, 235  # greys of the mask
WHOSE = "viz --reconstruction draws what s4mim restores, with method.lambda_mp above 0"


def reconstructions(
    session: Session, meta: dict[str, Any], count: int, seed: int
) -> tuple[Gallery, dict[str, Any]]:
    """`count` rows from the pictures of the method's steps, its three streams in turn.

    UsageError for a method, or settings of one, that reconstructs nothing.
    """
    name, partition, rows, images = session.config.title, session.partition, list[Row](), list[dict[str, Any]]()
    legend = legend_of(session.dataset, "padding; in a masked image, masked")
    for number, (_, shown) in enumerate(pictured(session, count, seed, "strong/reconstruction", WHOSE)):
        stream = STREAMS[number % len(STREAMS)]
        image, made = shown[f"{stream}/image"], shown[f"{stream}/reconstruction"]
        hidden, valid, group = (shown[f"{stream}/{what}"].numpy() for what in ("mask", "valid", "group"))
        record = (partition.labeled if stream == "labeled" else partition.unlabeled)[int(shown[f"{stream}/index"])]
        error = (made - image).square().mean(0).numpy()
        away, share = (float(x[valid].mean()) if valid.any() else 0.0 for x in (error, hidden))
        grey = np.where(hidden, HIDDEN, SEEN).astype(np.uint8)[..., None].repeat(3, axis=2)
        rgb = colours(session, image)
        tiles: list[Tile] = [
            Photo(rgb, valid),
            Photo(grey, valid),
            Photo(rgb, valid & ~hidden),
            Photo(colours(session, made), valid),
            Labels(np.where(valid, group, session.dataset.ignore), legend.colours),
        ]
        rows.append(Row(f"{record.id}, {stream}: {share:.0%} masked, squared error {away:.2f}", tiles))
        images.append({"id": record.id, "stream": stream, "masked": share, "error": away})
    subtitle = f"{session.dataset.name}, {standing(meta)}: labeled, strong and perturbed weak images; squared "
    subtitle += "error of the normalised channels against the image that is shown"
    gallery = Gallery(f"Reconstructions of {name}", subtitle, COLUMNS, rows, legend)
    return gallery, {"method": name, "step": meta["step"], "images": images}
