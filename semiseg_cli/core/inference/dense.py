"""An encoder's maps of whole images, a file for each: computed once, then read by whatever is trained on them.

A folder belongs to one encoder with these very weights and one size at which images are shown, so that what it holds is
never mixed with another's. A file belongs to an image's name and the bytes of its file, so that the folder serves every
split, and a dataset that grows. It is written whole or not at all: a kill costs the image at work.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from semiseg_cli.core.data.photos import reduced
from semiseg_cli.core.data.shards import content, member, state_of
from semiseg_cli.core.data.spec import Record
from semiseg_cli.core.errors import BadFile, CheckpointError, DataError, counted
from semiseg_cli.core.files import write_bytes
from semiseg_cli.core.inference.predictions import load_image
from semiseg_cli.core.networks import Encoder
from semiseg_cli.core.ops.sizes import fit_image
from semiseg_cli.core.reading import opened

VERSION = 3  # of how maps are computed: those of another one are not taken
PLAIN = (bool, int, float, str, tuple, list)  # what an encoder states of itself: taps, offset, multiple


@dataclass(frozen=True)
class Maps:
    """The files of one encoder at one size. encoder: in eval mode. side: larger images are shown reduced to it; 0: not.

    Images are shown as a whole, just as a `Predictor` with that `long_side` and no window shows them.
    """

    folder: Path
    encoder: Encoder
    side: int

    @classmethod
    def below(cls, folder: Path, encoder: Encoder, backbone: str, side: int) -> Maps:
        """Those in the folder below `folder` that belongs to this encoder, of that name, and size."""
        return cls(folder / fingerprint(encoder, backbone, side)[:16], encoder, side)

    def path(self, record: Record) -> Path:
        return self.folder / f"{_named(record)}-{_mark(record)[:32]}.safetensors"

    def read(self, record: Record) -> list[Tensor]:
        """The maps of an image, float16 (1, C, h, w), finest first; the file's pages, not a copy in memory."""
        tensors = load_file(self.path(record))
        return [tensors[str(place)] for place in range(len(tensors))]

    def missing(self, records: Sequence[Record]) -> list[Record]:
        """Those that have no file, or one that a crash left unreadable."""
        return [record for record in records if not self._holds(record)]

    def _holds(self, record: Record) -> bool:
        try:
            return len(self.read(record)) == len(self.encoder.channels)
        except (OSError, SafetensorError, KeyError):
            return False

    def compute(self, records: Sequence[Record], advance: Callable[[int], object] = lambda images: None) -> Cost:
        """Write the maps of those that are missing; says what that took. advance: told the number of images just done.

        Raises DataError for an image that cannot be read, and for a disk that is full: what is written stays.
        """
        missing = self.missing(records)
        advance(len(records) - len(missing))
        began = time.monotonic()
        for place, record in enumerate(missing):
            maps = self.of(record)
            data = save({str(index): x for index, x in enumerate(maps)})
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_bytes(self.path(record), data)
                for before in {*self.folder.glob(f"{_named(record)}-*.safetensors")} - {self.path(record)}:
                    before.unlink(missing_ok=True)  # of the image before it changed
            except OSError as error:
                need = (len(missing) - place) * len(data) / 1e6
                raise DataError(
                    f"cannot write features into {self.folder}",
                    why=f"{error}; what is done is kept, {counted(place + len(records) - len(missing), 'image')}",
                    fix=f"free about {need:.0f} MB, then the same command goes on; or a smaller --side",
                ) from error
            advance(1)
        return Cost(len(missing), time.monotonic() - began)

    def drop_others(self, records: Iterable[Record]) -> None:
        """Remove the files, here and in the folders beside, of images that are not among `records`: the dataset's."""
        named = {_named(record) for record in records}
        for file in self.folder.parent.glob("*/*.safetensors"):
            if file.stem.partition("-")[0] not in named:
                file.unlink(missing_ok=True)

    @torch.no_grad()
    def of(self, record: Record) -> list[Tensor]:
        """The maps of an image as `read` gives them, computed now and not kept."""
        device = next(self.encoder.parameters()).device
        mean, std = (torch.tensor(x, device=device)[:, None, None] for x in (self.encoder.mean, self.encoder.std))
        image = torch.from_numpy(reduced(load_image(record)[0], self.side)).to(device)
        rgb01_13HW = image.permute(2, 0, 1)[None].float() / 255
        maps = self.encoder(fit_image((rgb01_13HW - mean) / std, self.encoder.multiple))
        halves = [x.half().cpu().contiguous() for x in maps]
        if not all(x.isfinite().all() for x in halves):
            fix = "another --backbone or --weights"
            raise CheckpointError(f"the encoder's features of {record.image} are beyond float16", fix=fix)
        return halves


@dataclass(frozen=True)
class Cost:
    """What computing took."""

    images: int
    seconds: float


def _named(record: Record) -> str:
    """The beginning of the sha256 of an image's name."""
    return hashlib.sha256(record.id.encode()).hexdigest()[:16]


def _mark(record: Record) -> str:
    """sha256 of the bytes of an image's file."""
    try:
        return _content(record.image, *state_of(record.image))
    except OSError as error:
        raise BadFile(f"cannot read {record.image}", why=error.strerror or str(error)) from error


@cache
def _content(file: Path, *state: int | str) -> str:
    """sha256 of a file, or of a photo in a shard, read once in a process while its state stays."""
    if photo := member(file):
        return hashlib.sha256(content(photo)).hexdigest()
    with opened(file) as image:
        return hashlib.file_digest(image, "sha256").hexdigest()


def fingerprint(encoder: Encoder, backbone: str, side: int) -> str:
    """sha256 of all that decides its maps: the network, what it is told of itself, its tensors, and the images' size.

    The network is its name, which says how it computes, and what PyTorch prints of it: activations, padding, eps.
    """
    own = sorted((name, repr(value)) for name, value in vars(encoder).items() if isinstance(value, PLAIN))
    stated = [list(x) for x in (encoder.mean, encoder.std, encoder.strides, encoder.channels)]
    printed = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(encoder))  # a function's address
    digest = hashlib.sha256(repr((VERSION, backbone, side, stated, own, printed)).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
