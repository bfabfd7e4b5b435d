"""Verification: do two faces show one person? Protocols give the pairs, metrics judge the cosines."""

from facecore.verify.pairs import PairProtocol
from facecore.verify.protocols import PROTOCOLS, open_protocol
from facecore.verify.run import Verification, VerifyOptions, compare, correct, judge, verify

__all__ = [
    "PROTOCOLS",
    "PairProtocol",
    "Verification",
    "VerifyOptions",
    "compare",
    "correct",
    "judge",
    "open_protocol",
    "verify",
]
