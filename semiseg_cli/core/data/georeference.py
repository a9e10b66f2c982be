"""Where on Earth a photo lies: the tags of a GeoTIFF, which label maps of its size carry as well."""

from __future__ import annotations

from pathlib import Path

from PIL import TiffImagePlugin

from semiseg_cli.core.reading import opened

Tags = TiffImagePlugin.ImageFileDirectory_v2

# GeoTIFF 1.1: pixel scale, tie points, transformation, key directory, double and ASCII parameters
GEO = (33550, 33922, 34264, 34735, 34736, 34737)
PLACED = {33922, 34264}  # one of them says where the pixels are
ORIENTATION = 274


def tiff_tags(path: Path) -> Tags | None:
    """The tags of a TIFF's first image, also of one that Pillow cannot decode; None for any other file."""
    try:
        with opened(path) as file:
            head = file.read(8)
            if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return None
            head += file.read(8) if b"+" in head[:4] else b""  # BigTIFF
            tags = Tags(head)
            file.seek(tags.next)
            tags.load(file)
            return tags
    except Exception:  # damaged: whoever decodes the file says so
        return None


def georeference(path: Path) -> Tags | None:
    """The tags that say where the pixels of an image file lie; None if nothing does, or they are stored turned."""
    found = tiff_tags(path)
    if found is None or not PLACED & set(found) or found.get(ORIENTATION, 1) != 1:
        return None
    kept = Tags()
    for tag in GEO:
        if tag in found:
            kept.tagtype[tag] = found.tagtype[tag]
            kept[tag] = found[tag]
    return kept
