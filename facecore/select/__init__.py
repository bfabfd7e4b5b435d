"""Core-set selection: which faces stay, which go, and because of whom."""

from facecore.manifest import dropped_path
from facecore.select.central import Central
from facecore.select.diffprob import DiffProb
from facecore.select.facility_location import FacilityLocation
from facecore.select.herding import Herding
from facecore.select.kcenter import KCenter
from facecore.select.largest_identities import LargestIdentities
from facecore.select.nms import Nms
from facecore.select.order import take, write_order
from facecore.select.pairs import share_of_pairs_above
from facecore.select.random_faces import RandomFaces
from facecore.select.random_identities import RandomIdentities
from facecore.select.random_per_identity import RandomPerIdentity
from facecore.select.run import Job, Selection, select
from facecore.select.selector import Cut, Cutter, Fates, Limits, Selector
from facecore.select.semdedup import SemDeDup
from facecore.select.sparse import Sparse
from facecore.select.threshold import faces_to_keep

SELECTORS: dict[str, type[Selector]] = {
    Nms.name: Nms,
    RandomFaces.name: RandomFaces,
    RandomPerIdentity.name: RandomPerIdentity,
    RandomIdentities.name: RandomIdentities,
    LargestIdentities.name: LargestIdentities,
    KCenter.name: KCenter,
    Herding.name: Herding,
    FacilityLocation.name: FacilityLocation,
    Central.name: Central,
    Sparse.name: Sparse,
    SemDeDup.name: SemDeDup,
    DiffProb.name: DiffProb,
}

__all__ = [
    "SELECTORS",
    "Cut",
    "Cutter",
    "Fates",
    "Job",
    "Limits",
    "Nms",
    "Selection",
    "Selector",
    "dropped_path",
    "faces_to_keep",
    "select",
    "share_of_pairs_above",
    "take",
    "write_order",
]
