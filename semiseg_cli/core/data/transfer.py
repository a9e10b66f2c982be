"""A program: `python transfer.py get URL NAME` writes what is there to its output, `put URL NAME FILE` uploads a file.

It stands alone. What gives access comes from the environment, as AWS's, Google's and Azure's own tools have it.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

PATIENCE = timedelta(minutes=2)  # for one request and all that is tried in its place


def main(what: str, url: str, name: str, file: str = "") -> None:
    import obstore
    from obstore.store import from_url

    if url.startswith("file:"):
        place = from_url(url, mkdir=True)
    else:
        retry = {"max_retries": 6, "retry_timeout": PATIENCE}
        place = from_url(url, client_options={"allow_http": True}, retry_config=retry)  # of an address that says so
    if what == "put":
        _refuse_another(place, name, Path(file).stat().st_size)
        with Path(file).open("rb") as data:
            obstore.put(place, name, data)
        return
    for chunk in obstore.get(place, name).stream(min_chunk_size=1 << 20):
        sys.stdout.buffer.write(chunk)


def _refuse_another(place: Any, name: str, size: int) -> None:
    """Nothing is overwritten, but what an interrupted upload of the same may have left."""
    import obstore

    try:
        there = obstore.head(place, name)["size"]
    except (obstore.exceptions.NotFoundError, FileNotFoundError):
        return
    if there != size:
        raise RuntimeError(f"there is another {name}, of {there:,} bytes: choose an empty folder")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # obstore's, of any kind: whoever began this says it
        sys.exit(" ".join(str(error).partition("Debug source:")[0].split()))
