"""How hits are scored: weights, and the arithmetic that needs no database."""

from neuromem.ranking.profile import GraphWeights, RankingProfile, TurnWeights, top_with_best

__all__ = ["GraphWeights", "RankingProfile", "TurnWeights", "top_with_best"]
