"""The worst images of a run, predicted and drawn; and its evaluation, where an earlier version kept none."""

from __future__ import annotations

from pathlib import Path

from semiseg_cli.core.data.again import at_hand
from semiseg_cli.core.data.decode import decode_record
from semiseg_cli.core.data.index import load_dataset
from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.files import NETWORKS, resuming
from semiseg_cli.core.inference.evaluation import evaluate
from semiseg_cli.core.inference.predictor import Predictor
from semiseg_cli.core.places import find_root
from semiseg_cli.core.report.pictures import Case, picture
from semiseg_cli.core.runs.results import write_evaluation
from semiseg_cli.core.training.checkpoint import load_network
from semiseg_cli.core.training.distributed import device_of
from semiseg_cli.core.viz.tiles import Errors, Labels, Photo
from semiseg_cli.stages.evaluate import same_classes
from semiseg_cli.stages.progress import Progress
from semiseg_cli.stages.visualize_predictions import judge, legend_of


def newest_network(run: Path) -> Path:
    """The last network of a run, else its best. CheckpointError where it has none."""
    for name in reversed(NETWORKS):
        if (run / name).is_file():
            return run / name
    raise CheckpointError(f"{run} holds no network", fix=resuming(run))


def evaluated(run: Path, root: Path | None, device: str, progress: Progress) -> None:
    """Measure the run's last network on the validation images, and keep that as training does."""
    path, place = newest_network(run), device_of(device)
    net, meta = load_network(path, place)
    name = meta["data"]["name"]
    dataset = at_hand(load_dataset(find_root(name, root, path), name))
    same_classes(dataset, meta["data"]["classes"], path)
    with progress(f"evaluating {run.name}", len(dataset.val)) as advance:
        found = evaluate(Predictor.of(net, meta, place), dataset, dataset.val, progress=advance)
    write_evaluation(run, found.of(dataset, meta["step"]))


def worst(
    run: Path, images: dict[str, float], count: int, root: Path | None, device: str, progress: Progress
) -> list[Case]:
    """The images of the lowest mIoU, the worst first, as the run's last network sees them. images: mIoU by id."""
    wanted = set(sorted(images, key=lambda id: (images[id], id))[:count])
    if not wanted:
        return []
    dataset, _, judged = judge(
        newest_network(run),
        root,
        lambda records: [record for record in records if record.id in wanted],
        device,
        progress,
    )
    colours, cases = legend_of(dataset, "").colours, []
    for each in sorted(judged, key=lambda one: (one.miou, one.record.id)):
        rgb, counted = decode_record(each.record), each.truth != dataset.ignore
        wrong = Errors(rgb, (each.label != each.truth) & counted, counted)
        labels = [picture(Labels(one, colours)) for one in (each.truth, each.label)]
        drawn = (picture(Photo(rgb), photo=True), *labels, picture(wrong, photo=True))
        cases.append(Case(each.record.id, each.miou, 100 * each.wrong, *drawn))
    return cases
