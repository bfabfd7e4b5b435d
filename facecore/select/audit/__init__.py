"""The audit: every claim of a subset, recomputed from the embeddings.

A certificate is worth what it does not share with what it certifies: nothing in this folder comes from the selection,
neither its kernels nor its ranks nor its thresholds. It is a plain loop over all pairs of faces of an identity, in
double precision.
"""

from facecore.select.audit.report import Audit, Check
from facecore.select.audit.run import audit

__all__ = ["Audit", "Check", "audit"]
