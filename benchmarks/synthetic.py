"""Texts and vectors that behave like people's: words by Zipf's law, topics that share words and lie close together.

Everything comes from a seed and from the vocabulary of the installed local model, whose words stand in the order of
their frequency.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from memground.embedding import LocalEmbedding
from memground.embedding.install import TOKENIZER_FILE, default_model_dir

VOCABULARY = 30_000
TOPICS = 400
_TOPIC_WORDS = 120
_FUNCTION_WORDS = 150
_LATENT = 48  # about the intrinsic dimension of sentence embeddings
_SPREAD = 0.7  # squared length of what tells texts of one topic apart; the topic's own is 1

type Floats = NDArray[np.float32]
type Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """Rows that belong together: `vectors` is (rows, dims), of length 1."""

    topics: Ints
    texts: list[str]
    vectors: Floats


class World:
    """What people talk about: the same for the same seed, whatever is drawn from it."""

    def __init__(self, dims: int, seed: int = 1) -> None:
        random = np.random.default_rng(seed)
        self.dims = dims
        latent = min(_LATENT, dims)
        self._basis = np.linalg.qr(random.normal(size=(dims, latent)))[0].T.astype(np.float32)
        centres = random.normal(size=(TOPICS, latent))
        self._centres = (centres / np.linalg.norm(centres, axis=1, keepdims=True)).astype(np.float32)
        # Few directions matter much and many little, other ones for each topic: so neighbours differ in distance.
        spectrum = np.arange(1, latent + 1) ** -0.7
        spectrum *= np.sqrt(_SPREAD / np.sum(spectrum**2))
        self._scales = np.stack([random.permutation(spectrum) for _ in range(TOPICS)]).astype(np.float32)
        self._topic_words = random.integers(_FUNCTION_WORDS, VOCABULARY, size=(TOPICS, _TOPIC_WORDS))
        self._zipf = _cumulative(VOCABULARY)
        self._zipf_topic = _cumulative(_TOPIC_WORDS)
        self._zipf_function = _cumulative(_FUNCTION_WORDS)

    @cached_property
    def words(self) -> NDArray[np.object_]:
        """The vocabulary, most frequent first; past the model's own words, compounds of them."""
        tokens = json.loads((default_model_dir() / TOKENIZER_FILE).read_text(encoding="utf-8"))["model"]["vocab"]
        words = [word for word in tokens if word.isascii() and word.isalpha() and len(word) > 1][:VOCABULARY]
        tails = [word[2:] for word in tokens if word.startswith("##") and word[2:].isalpha() and len(word) > 4]
        random, known = np.random.default_rng(5), set(words)
        while len(words) < VOCABULARY:
            made = words[random.integers(1_000, 15_000)] + tails[random.integers(len(tails))]
            if made not in known:
                known.add(made)
                words.append(made)
        return np.array(words, dtype=object)

    def favourites(self, random: np.random.Generator) -> Ints:
        """The topics one person talks about, the dearest first."""
        return random.choice(TOPICS, size=60, replace=False)

    def things(self, random: np.random.Generator) -> list[str]:
        """The words that tell one person's topics from others', each once."""
        topics = self.favourites(random)
        return list(dict.fromkeys(self.words[self._topic_words[topics].ravel()].tolist()))

    def draw(self, random: np.random.Generator, topics: Ints) -> Texts:
        """One text with its vector for every entry of `topics`."""
        return Texts(topics, self._texts(random, topics), self.vectors(random, topics))

    def topics(self, random: np.random.Generator, favourites: Ints, rows: int, run: int = 1) -> Ints:
        """Topics of `rows` texts in order; a talk stays with one for `run` texts on average."""
        drawn = _pick(random, _cumulative(len(favourites)), rows)
        stays = random.random(rows) < 1 - 1 / run
        stays[0] = False
        begun = np.maximum.accumulate(np.where(stays, 0, np.arange(rows)))
        return favourites[drawn[begun]]

    def vectors(self, random: np.random.Generator, topics: Ints) -> Floats:
        noise = random.standard_normal((len(topics), self._centres.shape[1]), dtype=np.float32)
        vectors = (self._centres[topics] + noise * self._scales[topics]) @ self._basis
        vectors += random.standard_normal(vectors.shape, dtype=np.float32) * (0.15 / np.sqrt(self.dims))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _texts(self, random: np.random.Generator, topics: Ints) -> list[str]:
        rows = len(topics)
        lengths = np.clip(random.lognormal(np.log(13), 0.55, rows), 3, 60).astype(int)
        total = int(lengths.sum())
        kind = random.random(total)
        topical = self._topic_words[np.repeat(topics, lengths), _pick(random, self._zipf_topic, total)]
        other = np.where(kind < 0.75, topical, _pick(random, self._zipf, total))
        ids = np.where(kind < 0.42, _pick(random, self._zipf_function, total), other)
        words = self.words[ids]
        asks = random.random(rows) < 0.18
        codes = np.where(random.random(rows) < 0.03, random.integers(1_000, 10_000, rows), 0)
        ends = np.cumsum(lengths)
        texts: list[str] = []
        for end, length, ask, code in zip(ends.tolist(), lengths.tolist(), asks.tolist(), codes.tolist(), strict=True):
            text = " ".join(words[end - length : end])
            named = f" ZX-{code}" if code else ""
            texts.append(f"{text[0].upper()}{text[1:]}{named}{'?' if ask else '.'}")
        return texts


class SyntheticEmbedding(LocalEmbedding):
    """The local model for queries; for stored texts a point of the world by the text's hash, which costs nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.dims)

    async def embed_batch(self, texts: list[str]) -> list[list[float]]:
        return [self._point(text) for text in texts]

    def _point(self, text: str) -> list[float]:
        random = np.random.default_rng(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()))
        return self.world.vectors(random, random.integers(TOPICS, size=1))[0].tolist()


def near(random: np.random.Generator, vector: Floats, noise: float = 0.4) -> Floats:
    """A point beside a stored one, as a question lies beside its answer; length 1."""
    away = random.standard_normal(len(vector), dtype=np.float32)
    moved = vector + noise * away / np.linalg.norm(away)
    return moved / np.linalg.norm(moved)


def question(random: np.random.Generator, text: str) -> str:
    """A question that shares the rarer (longer) words of a text."""
    words = sorted({word.strip(".?").lower() for word in text.split()}, key=lambda word: (-len(word), word))
    chosen = list(random.permutation(words[:6])[: random.integers(2, 5)])
    return f"What did you say about {' '.join(chosen)}?"


def _cumulative(count: int) -> NDArray[np.float64]:
    weights = 1.0 / (np.arange(count) + 2.7)  # Mandelbrot's form
    return np.cumsum(weights / weights.sum())


def _pick(random: np.random.Generator, cumulative: NDArray[np.float64], count: int) -> Ints:
    return np.minimum(np.searchsorted(cumulative, random.random(count)), len(cumulative) - 1)
