"""How hits are scored: weights, and the arithmetic that needs no database."""

from neuromem.ranking.profile import RankingProfile, TurnWeights, top_with_best

__all__ = ["RankingProfile", "TurnWeights", "top_with_best"]
