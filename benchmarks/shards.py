"""Photos in shards against photos in files, on this disk and over a slow store: photos/s in the order of training.

    python -m benchmarks.shards [--workers 1 2 4] [--photos 960] [--delay 50] [--rate 100]

A pool of photos of 100 kB (500 x 375, as VOC's) is made, and put into shards of 16 MB, here and on a server of this
machine that takes DELAY milliseconds to answer and sends RATE MB/s to each who asks. Loader processes then decode the
first quarter of a pass, each every so manieth step of eight photos, as `semiseg train` has them do:

    files           files of this disk
    shards          shards of this disk
    shards, store   shards that lie on the server, of which the 16 that were read last are kept; the cache is empty
    files, store    files that lie on the server, one request each over connections that stay: an eighth as many

Photos/s, requests to the server, and how many shards a step of eight photos reads. All files are in memory, so that a
disk that has to seek would show more. Processes are started before the clock is.
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semiseg_cli.core.data import store
from semiseg_cli.core.data.decode import decode_record
from semiseg_cli.core.data.index import load_dataset, write_dataset
from semiseg_cli.core.data.loader import blocks_of
from semiseg_cli.core.data.order import FILES, HEADS, pick
from semiseg_cli.core.data.shards import expect, is_far
from semiseg_cli.core.data.spec import Dataset, Record
from semiseg_cli.core.sources import shapes
from semiseg_cli.stages.shard import Asked, shard

STEP, SIZE_MB, DRAWN = 8, 16, 24  # photos of a step; megabytes of a shard; different photos


class Slow(SimpleHTTPRequestHandler):
    """A folder behind a slow line."""

    protocol_version = "HTTP/1.1"  # connections stay
    delay, rate = 0.05, 100e6  # seconds, bytes a second
    asked: list[str]

    def log_message(self, *args: object) -> None: ...

    def do_GET(self) -> None:
        self.asked.append(self.path)
        time.sleep(self.delay)
        super().do_GET()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        with suppress(ConnectionError):  # whoever asked ended
            while data := source.read(1 << 20):
                outputfile.write(data)
                time.sleep(len(data) / self.rate)


@contextmanager
def slow(folder: Path, delay: float, rate: float) -> Iterator[tuple[str, list[str]]]:
    """The address of a folder on a slow server, and what it was asked for."""
    asked = list[str]()
    handler = type("Handler", (Slow,), {"delay": delay, "rate": rate, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def written(root: Path, photos: int) -> Dataset:
    """A prepared dataset `files` of so many photos, of which DRAWN differ."""
    folder = root / "files"
    (folder / "images").mkdir(parents=True)
    encoded, rng = list[bytes](), np.random.default_rng(0)
    for index in range(DRAWN):
        noisy = shapes.draw(0, "train", index, 500)[0][:375] + rng.normal(0, 9, (375, 500, 3))
        image = noisy.clip(0, 255).astype(np.uint8)
        encoded.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    records = list[Record]()
    for index in range(photos):
        file = folder / "images" / f"{index:06d}.jpg"
        file.write_bytes(encoded[index % DRAWN])
        records.append(Record(f"{index:06d}", file, None, 375, 500))
    write_dataset(Dataset("files", "folder", folder, ("a", "b"), ((0, 0, 0), (9, 9, 9)), records, ()), {})
    return load_dataset(root, "files")


def of_loader(dataset: Dataset) -> Callable[[int], None]:
    """Decodes the photos of the step that begins at a position of training, as a loader does."""
    pool, blocks = dataset.pool, blocks_of(dataset, dataset.pool)
    far = is_far(pool[-1].image)

    def places(positions: range) -> list[int]:
        return [pick(0, "unlabeled", len(pool), position, blocks) for position in positions]

    def step(first: int) -> None:
        now = places(range(first, first + STEP))
        if far:
            for place in (*now, *places(range(first + blocks.size, first + blocks.size + STEP))):
                expect(pool[place].image)
        for place in now:
            decode_record(pool[place])

    return step


def of_files(dataset: Dataset, address: str) -> Callable[[int], None]:
    """The same of files on a server."""
    pool, host = dataset.pool, address.removeprefix("http://")
    line = http.client.HTTPConnection(host)

    def step(first: int) -> None:
        for position in range(first, first + STEP):
            line.request("GET", f"/{pool[pick(0, 'unlabeled', len(pool), position, FILES)].image.name}")
            cv2.imdecode(np.frombuffer(line.getresponse().read(), np.uint8), cv2.IMREAD_COLOR_RGB)

    return step


def speed(make: Callable[[], Callable[[int], None]], photos: int, workers: int) -> float:
    """Photos/s of so many processes together."""
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(workers + 1)

    def work(number: int) -> None:
        cv2.setNumThreads(0)
        step = make()
        ready.wait()
        for each in range(number, photos // STEP, workers):
            step(each * STEP)

    processes = [context.Process(target=work, args=(number,)) for number in range(workers)]
    for each in processes:
        each.start()
    ready.wait()
    began = time.perf_counter()
    for each in processes:
        each.join()
    assert not any(each.exitcode for each in processes)
    return photos / (time.perf_counter() - began)


def shards_a_step(dataset: Dataset, photos: int) -> float:
    pool, blocks = dataset.pool, blocks_of(dataset, dataset.pool)
    tars = [pool[pick(0, "unlabeled", len(pool), i, blocks)].image.parts[-3] for i in range(photos)]
    return float(np.mean([len(set(tars[i : i + STEP])) for i in range(0, photos, STEP)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--photos", type=int, default=960, help="a quarter of the pool")
    parser.add_argument("--delay", type=float, default=50, help="milliseconds before an answer")
    parser.add_argument("--rate", type=float, default=100, help="MB/s of an answer")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="semiseg-shards-") as place:
        root, bound = Path(place), 2 * HEADS * SIZE_MB * 10**6
        files = written(root, 4 * given.photos)
        began = time.perf_counter()
        shards = shard(root, "files", name="shards", asked=Asked(SIZE_MB))
        took, total = time.perf_counter() - began, sum(record.bytes for record in shards.pool)
        print(f"{len(files.pool)} photos, {total / 1e6:.0f} MB, in {count(shards)} shards in {took:.1f} s")
        print(f"shards that a step of {STEP} reads: {shards_a_step(shards, given.photos):.1f}")
        far = shard(root, "files", name="far", asked=Asked(SIZE_MB, f"file://{root}/server", bound))
        line = given.delay / 1000, given.rate * 1e6
        for workers in given.workers:
            for what, dataset in (("files", files), ("shards", shards)):
                told(workers, what, speed(partial(of_loader, dataset), given.photos, workers))
            with slow(root / "server", *line) as (address, asked):
                for tar in (far.root / "shards").glob("*.tar"):
                    tar.unlink()
                store.keep(far.root / "shards", {"url": address, "cache": bound})
                found = speed(partial(of_loader, far), given.photos, workers)
                told(workers, "shards, store", found, f"{len(asked)} requests, {count(far)} shards kept")
            with slow(files.root / "images", *line) as (address, asked):
                few = given.photos // 8 // STEP * STEP
                found = speed(partial(of_files, files, address), few, workers)
                told(workers, "files, store", found, f"{len(asked) * given.photos // few} requests for as many")


def told(workers: int, what: str, found: float, more: str = "") -> None:
    print(f"{workers} processes  {what:14} {found:7.0f} photos/s  {more}", flush=True)


def count(dataset: Dataset) -> int:
    """Shards that are here."""
    return len(list((dataset.root / "shards").glob("*.tar")))


if __name__ == "__main__":
    main()
