"""Nearest points by cosine: exactly, or by a shortlist whose cosines are exact. The only door to FAISS."""

from facecore.search.index import HOW, Index, check_search

__all__ = ["HOW", "Index", "check_search"]
