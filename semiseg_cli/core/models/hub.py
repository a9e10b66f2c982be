"""One safetensors file from the Hugging Face hub, or an error within seconds that says what to do without it.

The hub's own client downloads into its own cache, goes on where a download stopped, and heeds `HF_ENDPOINT`, `HF_HOME`,
`HF_TOKEN` and `HF_HUB_OFFLINE`. Before it is let, the server is asked once, without its retries.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

from semiseg_cli.core.errors import CheckpointError
from semiseg_cli.core.files import digest
from semiseg_cli.core.web import check

SECONDS = 2.5  # for the server's first answer, names looked up and all; HF_HUB_ETAG_TIMEOUT is another number
SHA256 = 64  # digits; a mirror that gives another tag to a file cannot be believed
ALONE = "`--weights none` trains from scratch"


def cached(repo: str, file: str) -> Path | None:
    """The file in the hub's cache on this machine, if it is there; nobody is asked."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file)
    return Path(found) if isinstance(found, str) else None


def revision_of(path: Path) -> str:
    """The commit that a file of the cache is from."""
    return path.parent.name


def address(repo: str, file: str) -> str:
    """Where people and programs find the file."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repo, file, endpoint=_endpoint())


def fetch(repo: str, file: str, size: str, note: Callable[[str], None]) -> Path:
    """The file in the cache, downloaded if it is not there. size: in words, about; said where nobody answers.

    note: is told what is downloaded, its size and from where to where, before it is.
    Raises CheckpointError where it cannot be had: offline, absent, gated, damaged, a full disk.
    """
    if (path := cached(repo, file)) is not None:
        return path
    from huggingface_hub import constants, hf_hub_download

    try:
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("HF_HUB_OFFLINE is set, and it is not in the cache")
        check(address(repo, file))
        known = _asked(repo, file)
        if not known.size or len(known.etag or "") != SHA256:
            raise OSError("the server does not say the size and the sha256 of the file, so that it could be checked")
        exact = f"{known.size / 1e6:.0f} MB"
        note(f"downloading {file} of {repo} ({exact}) from {address(repo, file)} to {constants.HF_HUB_CACHE}")
        path = Path(hf_hub_download(repo, file, endpoint=_endpoint(), etag_timeout=SECONDS))
        _check(path, known.etag)
    except Exception as error:  # the hub's, its transport's, the disk's: of many classes
        raise _unobtainable(repo, file, size, error) from error
    return path


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _asked(repo: str, file: str) -> Any:
    """What the server says of a file: size, hash, revision. TimeoutError where it says nothing in time."""
    from huggingface_hub import get_hf_file_metadata

    limit = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or SECONDS)
    answers, errors = list[Any](), list[Exception]()

    def ask() -> None:
        try:
            answers.append(get_hf_file_metadata(address(repo, file), timeout=limit, endpoint=_endpoint()))
        except Exception as error:
            errors.append(error)

    asking = Thread(target=ask, daemon=True)  # looking up a name may hang for long, and knows no timeout
    asking.start()
    asking.join(limit)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {limit:g} s")
    return answers[0]


def _check(path: Path, etag: str) -> None:
    """The hub's tag of a large file is its sha256. Raises OSError, and removes the file, where it has another."""
    found = digest(path)
    if found != etag:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise OSError(f"its sha256 is {found[:12]}... instead of {etag[:12]}...")


def _unobtainable(repo: str, file: str, size: str, error: Exception) -> CheckpointError:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    page = address(repo, file)
    what = f"cannot download {file} of {repo} ({size})"
    if isinstance(error, GatedRepoError):
        page = page.split("/resolve/")[0]
        fix = f"accept its terms on {page}, then `hf auth login`; or `--weights FILE`; {ALONE}"
        return CheckpointError(f"{repo} is gated: its terms are to be accepted first", fix=fix)
    absent = isinstance(error, EntryNotFoundError | RepositoryNotFoundError)
    if absent and not isinstance(error, LocalEntryNotFoundError):
        return CheckpointError(f"there is no {page}", why=_first_line(error), fix=f"`--weights FILE`; {ALONE}")
    fix = (
        f"`--weights FILE` with that file, from {page} by any other way, wherever it lies; "
        f"or the hub's cache of another machine in {constants.HF_HUB_CACHE}; {ALONE}"
    )
    return CheckpointError(what, why=_first_line(error), fix=fix)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
