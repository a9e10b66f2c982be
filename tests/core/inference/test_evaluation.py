"""Evaluation end to end on small generated datasets, with a network that reads the answer from the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch import distributed as dist
from torchmetrics.functional.classification import multiclass_confusion_matrix

from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.errors import DataError, UsageError
from semiseg_cli.core.inference.evaluation import Evaluation, evaluate, head_and_tail
from semiseg_cli.core.inference.metrics import Asked
from semiseg_cli.core.inference.options import resolve_window
from semiseg_cli.core.inference.predictions import predictions
from semiseg_cli.core.inference.predictor import Predictor, in_bfloat16

MEAN, STD = (0.2, 0.4, 0.6), (0.5, 0.25, 0.2)
CLASSES = ("ground", "leaf", "stone")
SHAPES = [(24, 32), (20, 20), (24, 32), (17, 40), (24, 32), (20, 20)]


class Reader(nn.Module):
    """Predicts the class that the red channel names (10 per class), and `wrong` where green is set."""

    def __init__(self, wrong: int = 0) -> None:
        super().__init__()
        self.wrong, self.shapes = wrong, []
        self.norm = nn.BatchNorm2d(3)  # only to see modes

    def forward(self, x_B3HW: Tensor) -> Tensor:
        assert not self.training
        self.shapes.append(tuple(x_B3HW.shape))
        rgb = x_B3HW * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
        label = (rgb[:, 0] * 25.5).round().long()
        label = torch.where(rgb[:, 1] > 0.5, self.wrong, label)
        return 5 * nn.functional.one_hot(label, len(CLASSES)).permute(0, 3, 1, 2).float()


def write_record(folder: Path, name: str, mask: np.ndarray, *, flaw: np.ndarray | None = None) -> Record:
    """An image whose red channel holds the class; green marks the pixels on which `Reader` errs."""
    image = np.zeros((*mask.shape, 3), np.uint8)
    image[..., 0] = 10 * np.where(mask == 255, 0, mask)
    if flaw is not None:
        image[..., 1] = 255 * flaw
    Image.fromarray(image).save(folder / f"{name}.image.png")
    Image.fromarray(mask).save(folder / f"{name}.mask.png")
    return Record(name, folder / f"{name}.image.png", folder / f"{name}.mask.png", *mask.shape)


def dataset_of(folder: Path, records: list[Record]) -> Dataset:
    palette = ((0, 0, 0), (200, 10, 10), (10, 200, 10))
    return Dataset("tiny", "folder", folder, CLASSES, palette, (), tuple(records))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    masks = [rng.choice([0, 1, 2, 255], shape, p=[0.5, 0.3, 0.1, 0.1]).astype(np.uint8) for shape in SHAPES]
    flaws = [rng.random(shape) < 0.2 for shape in SHAPES]
    pairs = enumerate(zip(masks, flaws, strict=True))
    return dataset_of(tmp_path, [write_record(tmp_path, f"i{k}", mask, flaw=flaw) for k, (mask, flaw) in pairs])


def predictor(net: nn.Module, **how: object) -> Predictor:
    return Predictor(net=net, mean=MEAN, std=STD, device=torch.device("cpu"), **how)


def measure(net: nn.Module, dataset: Dataset, asked: Asked = Asked(), **more: object) -> Evaluation:  # noqa: B008
    here = {key: more.pop(key) for key in ("workers", "progress", "save") if key in more}
    return evaluate(predictor(net, **more), dataset, dataset.val, asked=asked, **here)


def test_right_answers_are_100(tmp_path: Path) -> None:
    mask = np.array([[0, 0, 1, 255], [0, 1, 1, 255]], np.uint8).repeat(4, 0).repeat(4, 1)
    result = measure(Reader(), dataset_of(tmp_path, [write_record(tmp_path, "a", mask)]), asked=Asked(boundary=True))
    assert result.values == {"miou": 100, "pixel_accuracy": 100, "boundary_f": 100}
    assert result.images == 1
    assert result.by_class["iou"] == {"ground": 100.0, "leaf": 100.0, "stone": None}


def test_known_errors_give_the_known_values(tmp_path: Path) -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[5:] = 1
    flaw = np.zeros((10, 10), bool)
    flaw[9] = True  # 10 of the 50 pixels of class 1 become class 0
    data = dataset_of(tmp_path, [write_record(tmp_path, "a", mask, flaw=flaw)])
    result = measure(Reader(), data)
    assert result.by_class["iou"]["ground"] == pytest.approx(100 * 50 / 60)
    assert result.by_class["iou"]["leaf"] == pytest.approx(80)
    assert result.miou == pytest.approx((100 * 50 / 60 + 80) / 2)
    assert result.values["pixel_accuracy"] == pytest.approx(90)
    zero = measure(Reader(), data, asked=Asked(absent_as_zero=True))
    assert zero.by_class["iou"]["stone"] == 0
    assert zero.miou == pytest.approx((100 * 50 / 60 + 80) / 3)


def test_matrix_equals_torchmetrics(dataset: Dataset) -> None:
    truth, pred = [], []
    for record in dataset.val:
        image, mask = np.asarray(Image.open(record.image)), np.asarray(Image.open(record.mask))
        truth.append(mask.ravel())
        pred.append(np.where(image[..., 1] > 0, 2, image[..., 0] // 10).ravel())
    wanted = multiclass_confusion_matrix(
        torch.tensor(np.concatenate(pred)), torch.tensor(np.concatenate(truth)).long(), 3, ignore_index=255
    )
    assert torch.equal(measure(Reader(wrong=2), dataset).matrix_KK, wanted)


@pytest.mark.parametrize("how", [{"batch": 1}, {"batch": 2}, {"batch": 64}, {"workers": 2}, {"batch": 3, "window": 16}])
def test_result_does_not_depend_on_grouping(dataset: Dataset, how: dict[str, int]) -> None:
    wanted = measure(Reader(wrong=1), dataset, asked=Asked(boundary=True))
    found = measure(Reader(wrong=1), dataset, asked=Asked(boundary=True), **how)
    assert torch.equal(found.matrix_KK, wanted.matrix_KK)
    assert (found.miou, found.by_class["iou"], found.images) == (wanted.miou, wanted.by_class["iou"], wanted.images)
    assert found.values["boundary_f"] == pytest.approx(wanted.values["boundary_f"], abs=1e-9)


def test_every_image_has_the_miou_of_its_own_classes(tmp_path: Path) -> None:
    mask, flaw = np.zeros((10, 10), np.uint8), np.zeros((10, 10), bool)
    mask[:5], flaw[5:7] = 1, True  # 20 of 50 pixels of the ground are taken for leaf
    records = [
        write_record(tmp_path, "half", mask, flaw=flaw),
        write_record(tmp_path, "void", np.full((10, 10), 255, np.uint8)),
        write_record(tmp_path, "right", mask),
    ]
    found = measure(Reader(wrong=1), dataset_of(tmp_path, records))
    assert found.image_miou == pytest.approx({"half": (100 * 30 / 50 + 100 * 50 / 70) / 2, "right": 100.0})
    kept = found.of(dataset_of(tmp_path, records), 7)
    assert (kept["step"], kept["frequency"][:2]) == (7, [50.0, 50.0])
    assert kept["confusion"] == [[80, 20, 0], [0, 100, 0], [0, 0, 0]]
    assert list(kept["images"]) == ["half", "right"]


def test_order_of_records_does_not_matter(dataset: Dataset) -> None:
    back = evaluate(predictor(Reader(1)), dataset, dataset.val[::-1])
    assert torch.equal(back.matrix_KK, measure(Reader(1), dataset).matrix_KK)


def test_equal_shapes_share_a_forward_and_nothing_is_padded(dataset: Dataset) -> None:
    net = Reader()
    measure(net, dataset, batch=2)
    assert sorted(net.shapes) == sorted([(2, 3, 24, 32), (1, 3, 24, 32), (2, 3, 20, 20), (1, 3, 17, 40)])
    net = Reader()
    measure(net, dataset, window=24)
    assert net.shapes[0] == (6, 3, 24, 24)  # two windows of three images of 24x32


def test_large_images_go_one_by_one_on_a_cpu(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semiseg_cli.core.inference.predictor.CPU_PIXELS", 2 * 24 * 24)
    whole, windows = Reader(), Reader()
    measure(whole, dataset)
    assert {shape[0] for shape in whole.shapes if shape[2:] == (24, 32)} == {1}
    measure(windows, dataset, window=24)
    assert {shape[0] for shape in windows.shapes if shape[2:] == (24, 24)} == {2}


def test_every_module_gets_its_mode_back_and_random_numbers_do_not_move(dataset: Dataset) -> None:
    net = Reader().train()
    net.norm.eval()
    before = torch.get_rng_state()
    measure(net, dataset)
    assert net.training
    assert not net.norm.training
    assert torch.equal(torch.get_rng_state(), before)


def test_predictions_are_saved_with_the_palette(dataset: Dataset, tmp_path: Path) -> None:
    done: list[int] = []
    measure(Reader(), dataset, save=tmp_path / "out", progress=done.append)
    assert sum(done) == len(SHAPES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"i{k}.png" for k in range(len(SHAPES))]
    for record in dataset.val:
        saved, image = Image.open(tmp_path / "out" / f"{record.id}.png"), np.asarray(Image.open(record.image))
        assert saved.mode == "P"
        assert (tmp_path / "out" / f"{record.id}.png").read_bytes()[24] == 8  # bits per pixel
        assert saved.getpalette()[:9] == [0, 0, 0, 200, 10, 10, 10, 200, 10]
        assert np.array_equal(np.asarray(saved), np.where(image[..., 1] > 0, 0, image[..., 0] // 10))


def test_a_folder_that_cannot_be_written_is_named(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write .*file"):
        measure(Reader(), dataset, save=tmp_path / "file")


def test_predictions_need_no_mask_and_give_confidence(dataset: Dataset) -> None:
    records = [Record(r.id, r.image, None, r.height, r.width) for r in dataset.val]
    how = predictor(Reader(), flip=True, scales=(1.0, 1.5))
    parts = list(predictions(how, records, probabilities=True))
    assert sum(len(part.records) for part in parts) == len(records)
    for part in parts:
        assert part.truth_BHW is None
        assert part.label_BHW.dtype == torch.uint8
        assert part.conf_BHW is not None
        assert part.conf_BHW.min() > 1 / 3
        assert part.conf_BHW.max() <= 1
    for asked, plain in zip(parts, predictions(how, records), strict=True):
        assert plain.conf_BHW is None
        assert torch.equal(plain.label_BHW, asked.label_BHW)


def test_amp_runs_the_network_under_bfloat16(dataset: Dataset) -> None:
    seen: list[torch.dtype] = []

    class Watch(Reader):
        def forward(self, x_B3HW: Tensor) -> Tensor:
            seen.append((torch.ones(1, 1) @ torch.ones(1, 1)).dtype)
            return super().forward(x_B3HW)

    measure(Watch(), dataset, amp=True)
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize("workers", [0, 1])
def test_mask_of_another_size_names_both(tmp_path: Path, workers: int) -> None:
    record = write_record(tmp_path, "a", np.zeros((8, 9), np.uint8))
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(record.mask)
    with pytest.raises(DataError, match=r"a\.mask\.png is 8x8 pixels, the dataset's index says 9x8") as caught:
        measure(Reader(), dataset_of(tmp_path, [record]), workers=workers)
    assert "prepare" in caught.value.fix


def test_label_outside_the_classes_names_file_and_value(tmp_path: Path) -> None:
    mask = np.zeros((8, 9), np.uint8)
    mask[0, 0], mask[1, 1] = 3, 255
    record = write_record(tmp_path, "a", mask)
    with pytest.raises(DataError, match=r"a.mask.png has the values \[3\], but there are 3 classes"):
        measure(Reader(), dataset_of(tmp_path, [record]))


def test_image_that_changed_since_prepare_is_named(tmp_path: Path) -> None:
    record = write_record(tmp_path, "a", np.zeros((8, 9), np.uint8))
    with pytest.raises(DataError, match=r"a\.image\.png is 9x8 pixels, the dataset's index says 5x8"):
        measure(Reader(), dataset_of(tmp_path, [Record("a", record.image, record.mask, 8, 5)]))


def test_nothing_to_evaluate_on(tmp_path: Path) -> None:
    record = write_record(tmp_path, "a", np.full((8, 9), 255, np.uint8))
    for records in ([record], [Record("a", record.image, None, 8, 9)], []):
        with pytest.raises(DataError, match="nothing to evaluate"):
            measure(Reader(), dataset_of(tmp_path, records))


def test_window_names() -> None:
    assert (resolve_window("auto", 801), resolve_window("none", 801), resolve_window("321", 801)) == (801, 0, 321)
    for wrong in ("big", "-3", "", "1.5", "31", "0"):
        with pytest.raises(UsageError, match="window"):
            resolve_window(wrong, 0)


def in_one_of_two_processes(rank: int, dataset: Dataset, folder: Path) -> None:
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), 2), rank=rank, world_size=2)
    asked = Asked(boundary=True)
    found = [evaluate(predictor(Reader(1)), dataset, dataset.val[:n], asked=asked) for n in (6, 1)]  # one has nothing
    told = [(f.matrix_KK, f.values["boundary_f"], f.images, f.image_miou) for f in found]
    torch.save(told, folder / f"rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_processes_share_the_images_and_agree_on_the_whole(dataset: Dataset, tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(in_one_of_two_processes, (dataset, tmp_path), nprocs=2, start_method="fork")
    for rank in (0, 1):
        for n, (matrix_KK, boundary_f, count, image_miou) in zip(
            (6, 1), torch.load(tmp_path / f"rank{rank}.pt"), strict=True
        ):
            wanted = evaluate(predictor(Reader(1)), dataset, dataset.val[:n], asked=Asked(boundary=True))
            assert torch.equal(matrix_KK, wanted.matrix_KK)
            assert image_miou == wanted.image_miou
            assert (boundary_f, count) == (wanted.values["boundary_f"], wanted.images)


def test_head_and_tail() -> None:
    iou = {"pole": 20.0, "sky": 90.0, "road": 80.0, "truck": None, "sign": 40.0, "car": 60.0}
    frequency = {"pole": 2.0, "sky": 40.0, "road": 50.0, "truck": 0.0, "sign": 1.0, "car": 7.0}
    assert head_and_tail(iou, frequency) == {
        "head": {"classes": ["road", "sky", "car"], "miou": pytest.approx(230 / 3)},
        "tail": {"classes": ["pole", "sign"], "miou": 30.0},
    }
    assert head_and_tail({"sky": 50.0}, {"sky": 100.0})["tail"] == {"classes": [], "miou": None}


def test_bfloat16_is_for_cuda_and_can_be_off() -> None:
    assert [in_bfloat16(amp, torch.device("cuda", 1)) for amp in ("auto", "bf16", "off")] == [True, True, False]
    assert not any(in_bfloat16(amp, "cpu") for amp in ("auto", "bf16", "off"))
