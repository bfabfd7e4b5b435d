"""Verification: do two faces show one person? Protocols give the pairs, metrics judge the cosines."""

from facecore.verify.embedding import VerifyOptions
from facecore.verify.identification import Identification
from facecore.verify.ijb import read_ijb
from facecore.verify.metrics import Roc, check_pairs, roc_of
from facecore.verify.pairs import PairProtocol
from facecore.verify.printed import suite_table
from facecore.verify.protocols import PROTOCOLS, open_protocol
from facecore.verify.run import TemplateVerification, Verification, compare, correct, judge, verify
from facecore.verify.suite import Suite, run_suite
from facecore.verify.templates import TemplateProtocol

__all__ = [
    "PROTOCOLS",
    "Identification",
    "PairProtocol",
    "Roc",
    "Suite",
    "TemplateProtocol",
    "TemplateVerification",
    "Verification",
    "VerifyOptions",
    "check_pairs",
    "compare",
    "correct",
    "judge",
    "open_protocol",
    "read_ijb",
    "roc_of",
    "run_suite",
    "suite_table",
    "verify",
]
