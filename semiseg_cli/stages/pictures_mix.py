"""Pictures of mixtures: what GuidedMix-Net mixes, what it predicts on the mixture, and what it decouples from that."""

from __future__ import annotations

from typing import Any

from semiseg_cli.core.training.preview import colours, pictured
from semiseg_cli.core.training.session import Session
from semiseg_cli.core.viz.sheets import Gallery, Row
from semiseg_cli.core.viz.tiles import Labels, Photo, Tile
from semiseg_cli.stages.pictures_steps import standing
from semiseg_cli.stages.visualize_predictions import legend_of

WHOSE = "viz --mix draws what guidedmix mixes"


def mixtures(
    session: Session, meta: dict[str, Any], count: int, seed: int
) -> tuple[Gallery, dict[str, Any]]:
    """Steps of the run's method as it stands; UsageError for one that mixes no pairs."""
    legend = legend_of(session.dataset, session.method.untaught)
    rows, images = [], []
    for record, shown in pictured(session, count, seed, "mixed", WHOSE):
        counted = shown["counted"].numpy()
        tiles: list[Tile] = [Photo(colours(session, shown[name])) for name in ("labeled", "unlabeled", "mixed")]
        tiles += [Labels(shown[name].numpy(), legend.colours, counted) for name in ("prediction", "decoupled")]
        share = float(shown["share"])
        rows.append(Row(f"{record.id}: lambda {share:.2f}", tiles))
        images.append({"id": record.id, "lambda": share})
    columns = ("labeled", "unlabeled", "mixed", "its prediction", "decoupled pseudo-mask")
    subtitle = f"{session.dataset.name}, {standing(meta)}: lambda times the labeled image, the rest the unlabeled one"
    gallery = Gallery(f"Mixtures of {session.config.title}", subtitle, columns, rows, legend)
    return gallery, {"method": session.config.title, "step": meta["step"], "images": images}
