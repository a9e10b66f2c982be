"""`semiseg shard`: a dataset beside another one, whose photos without a mask lie in few large files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from semiseg_cli.cli import console, options
from semiseg_cli.cli.options import OUTPUT
from semiseg_cli.core.commands import command
from semiseg_cli.core.data.again import SHARD_MB
from semiseg_cli.core.data.store import CACHE_GB
from semiseg_cli.core.errors import UsageError

SHARDS = "Shards"


def shard(
    data: options.DataArgument = "",
    name: Annotated[
        str, typer.Option(help="name of the dataset", show_default="DATA-shards", rich_help_panel=OUTPUT)
    ] = "",
    shard_mb: Annotated[
        float, typer.Option(metavar="MB", help="megabytes of a shard", rich_help_panel=SHARDS)
    ] = SHARD_MB,
    to: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="upload them: s3://, gs://, az://, https:// or file://; needs semiseg\\[shards]",
            rich_help_panel=SHARDS,
        ),
    ] = "",
    cache_gb: Annotated[
        float | None,
        typer.Option(
            metavar="GB",
            help="with --to: gigabytes of shards that are kept here, those that were read last",
            show_default=f"{CACHE_GB:g}",
            rich_help_panel=SHARDS,
        ),
    ] = None,
    root: options.Root = Path("data"),
    json: options.Json = False,
) -> None:
    """Put the photos that have no mask into shards: tar files, of which a run reads few at a time.

    For pools of millions of photos, and for disks and object stores that are slow with small files. They become a
    new dataset beside DATA, which stays as it is. Photos with a mask stay files.

    Where it is interrupted, the same command goes on.
    """
    from semiseg_cli.core.data.index import default_name
    from semiseg_cli.stages.shard import Asked, told
    from semiseg_cli.stages.shard import shard as run

    if cache_gb is not None and not to:
        raise UsageError("--cache-gb goes with --to", why="without it all shards are here", fix="--to s3://BUCKET/FOLDER")
    asked = Asked(shard_mb, to.rstrip("/"), round((CACHE_GB if cache_gb is None else cache_gb) * 1e9))
    dataset = run(root, data or default_name(root), name=name, asked=asked, progress=console.progress)
    found = told(dataset)
    text = (
        f"{dataset.name} is ready in {dataset.root}: {found['photos']:,} photos in {found['shards']:,} shards of about "
        f"{found['each']:,}{', in ' + found['url'] if found['url'] else ''}; {found['labeled']:,} labeled, "
        f"{found['val']:,} val as files"
    )
    console.result("shard", found, text, json)
    console.note(f"next: {command('train', '-d', dataset.name, root=root)}")
