"""Which photos to label: those of `semiseg pick` beside random ones, judged by a probe's head. No GPU needed.

    python -m benchmarks.picking DATA... [--root data] [--weights FILE] [--labels 5 10 20] [--draws 10]

Labels are simulated: the pool of a prepared dataset is its labeled training images (MOST in `seen.py`, evenly taken),
and a mask counts once its image is picked. For every number of labels a probe's head, `mlp` on the frozen encoder, is
trained on the images chosen, with the seed of the draw, and evaluated on the validation images; both at PLACES random
places of an image instead of all. The rules: images at random; `pick`; and `pick` in two rounds, half of the labels
each, the second told what is labeled and asking the network of the first (`--run`). What is computed of images is kept
in `--cache`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.seen import Seen, look
from semiseg_cli.core.models.decoders.heads import MLP
from semiseg_cli.core.ops import metrics
from semiseg_cli.core.partitions.picking import doubt, pick, unit_rows
from semiseg_cli.core.settings import TrainConfig
from semiseg_cli.core.training.heads import Example, fit_head
from semiseg_cli.core.training.labeled_classes import class_weights
from semiseg_cli.stages.probe import DEFAULTS, RATES

STEPS = 100  # of the head, a third of a probe's
RULES = ("random", "pick", "pick, then --run")


class Judge:
    """Networks from labeled images of a domain, and what they are worth."""

    def __init__(self, seen: Seen) -> None:
        self.seen, self.classes = seen, len(seen.dataset.classes)
        self.x_ND = unit_rows(lambda rows: seen.pooled[rows].numpy(), *seen.pooled.shape)

    def chosen(self, rule: str, count: int, seed: int) -> list[int]:
        """Places of the images that a rule labels."""
        nobody = np.zeros(0, np.int64)
        if rule == "random":
            return [int(place) for place in np.random.default_rng(seed).permutation(len(self.x_ND))[:count]]
        if rule == "pick":
            return pick(self.x_ND, nobody, count, seed=seed).places
        first = pick(self.x_ND, nobody, count // 2, seed=seed).places
        weight = self.doubt(self.head(first, seed))
        return first + pick(self.x_ND, np.array(first), count - len(first), seed=seed, weight_N=weight).places

    def head(self, places: Sequence[int], seed: int) -> MLP:
        """A probe's head, trained on these images."""
        torch.manual_seed(seed)
        head = MLP(self.seen.channels, [4 * 2**level for level in range(len(self.seen.channels))], self.classes)
        given = {name.removeprefix("train."): value for name, value in DEFAULTS.items() if name.startswith("train.")}
        train = TrainConfig(**(given | {"lr": RATES["mlp"], "steps": STEPS, "seed": seed}))
        examples = [self.seen.pool[place] for place in places]
        labels = torch.cat([example.label_hw.flatten() for example in examples])
        counts = torch.bincount(labels[labels < self.classes], minlength=self.classes)
        fit_head(head, examples, train, class_weights((counts / counts.sum()).tolist(), "sqrt"))
        return head

    @torch.no_grad()
    def miou(self, head: MLP) -> float:
        """Percent, over the validation images."""
        total = torch.zeros(self.classes, self.classes, dtype=torch.int64)
        for example in self.seen.val:
            label_1hw = logits(head, example).argmax(1)
            total += metrics.confusion(label_1hw, example.label_hw[None], self.classes, self.seen.dataset.ignore)
        return metrics.miou(total)

    @torch.no_grad()
    def doubt(self, head: MLP) -> NDArray[np.float32]:
        """As `semiseg pick --run` has it, of every image of the pool."""
        entropy, pixels = np.zeros((2, len(self.x_ND), self.classes))
        for place, example in enumerate(self.seen.pool):
            probs = logits(head, example).softmax(1)[0, :, 0]
            label, unsure = probs.argmax(0).numpy(), -probs.xlogy(probs).sum(0).numpy()
            entropy[place] = np.bincount(label, unsure, minlength=self.classes)
            pixels[place] = np.bincount(label, minlength=self.classes)
        return doubt(entropy, pixels)


def logits(head: MLP, example: Example) -> Tensor:
    """(1, K, 1, PLACES)."""
    found: Tensor = head.classifier(head.features([x.float() for x in example.maps])[1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="prepared datasets")
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--draws", type=int, default=10, help="seeds of random; the other rules get a third")
    parser.add_argument("--cache", type=Path, default=Path("picking-cache"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| data | labels | rule | seeds | mIoU: mean ± sd | least, most |\n|---|---|---|---|---|---|")
    for name in asked.data:
        judge, began = Judge(look(asked.root, name, asked.encoder, asked.weights, asked.cache)), time.process_time()
        for count in (count for count in asked.labels if count < len(judge.x_ND)):
            for rule in RULES:
                seeds = range(asked.draws if rule == "random" else max(2, asked.draws // 3))
                found = [judge.miou(judge.head(judge.chosen(rule, count, s), s)) for s in seeds]
                spread = f"{len(seeds)} | {statistics.mean(found):.1f} ± {statistics.stdev(found):.1f}"
                print(f"| {name} | {count} | {rule} | {spread} | {min(found):.1f}, {max(found):.1f} |", flush=True)
                with (asked.cache / "picking.jsonl").open("a") as file:
                    file.write(json.dumps({"data": name, "labels": count, "rule": rule, "miou": found}) + "\n")
        print(f"<!-- {name}: {time.process_time() - began:.0f} core seconds for the fits -->", flush=True)


if __name__ == "__main__":
    main()
