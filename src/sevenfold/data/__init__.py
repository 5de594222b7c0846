"""Turn labelled photos into a data set with roles: scan, fingerprint, assemble, split."""

from sevenfold.data.assemble import (
    Dataset,
    Fingerprints,
    SmallClasses,
    assemble,
    fingerprint_all,
    merged_groups,
    read,
)
from sevenfold.data.given import GivenSource, given
from sevenfold.data.joined import JoinedSource, joined, placed, prefixed
from sevenfold.data.manifest import (
    EMPTY,
    Manifest,
    Opening,
    Row,
    contents,
    from_json,
    known,
    log_opening,
    opened,
    read_manifest,
    roles_of_groups,
    to_json,
)
from sevenfold.data.packaged import elpv, fashion_mnist
from sevenfold.data.photos import Listing, Photo, Quarantined, Role, Source
from sevenfold.data.scan import PACKAGED, refuse_among, scan
from sevenfold.data.sources import ArraySource, FolderSource, ParquetSource
from sevenfold.data.split import SMALL_DATA, Split, manifest_of, split
from sevenfold.image import WHOLE, Box, Fingerprint, shown

__all__ = [
    "EMPTY",
    "PACKAGED",
    "SMALL_DATA",
    "WHOLE",
    "ArraySource",
    "Box",
    "Dataset",
    "Fingerprint",
    "Fingerprints",
    "FolderSource",
    "GivenSource",
    "JoinedSource",
    "Listing",
    "Manifest",
    "Opening",
    "ParquetSource",
    "Photo",
    "Quarantined",
    "Role",
    "Row",
    "SmallClasses",
    "Source",
    "Split",
    "assemble",
    "contents",
    "elpv",
    "fashion_mnist",
    "fingerprint_all",
    "from_json",
    "given",
    "joined",
    "known",
    "log_opening",
    "manifest_of",
    "merged_groups",
    "opened",
    "placed",
    "prefixed",
    "read",
    "read_manifest",
    "refuse_among",
    "roles_of_groups",
    "scan",
    "shown",
    "split",
    "to_json",
]
