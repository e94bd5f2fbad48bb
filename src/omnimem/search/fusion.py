"""Reciprocal rank fusion, by the ground both systems stand on."""

from memground.fusion import RRF_K, rrf, rrf_share

__all__ = ["RRF_K", "rrf", "rrf_share"]
