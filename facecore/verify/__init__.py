"""Verification: do two faces show one person? Protocols give the pairs, metrics judge the cosines."""

from facecore.verify.pairs import PairProtocol
from facecore.verify.protocols import PROTOCOLS, open_protocol
from facecore.verify.run import Verification, VerifyOptions, verify

__all__ = ["PROTOCOLS", "PairProtocol", "Verification", "VerifyOptions", "open_protocol", "verify"]
