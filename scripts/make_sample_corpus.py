"""Generates the sample corpus and computes its entropy bound.

The language is a hidden Markov model, defined by a small grammar. Its hidden states create
long-range dependencies:

- the verb of a clause agrees in number with its head noun, regardless of the nouns between them;
- "either" requires "or", and "if" requires "then", one clause later;
- the topic determines which nouns, verbs and adjectives occur, and usually lasts from sentence to
  sentence, so a model that keeps its hidden state across `<eos>` predicts better.

The model is finite, so the probability of each word given all previous words is a sum over hidden
paths that the forward algorithm computes exactly (Rabiner 1989, equations 18 to 21). The
average negative log-probability over a split is the entropy bound, the score of the best possible
model. As in ptblm, `<eos>` is included, and the first word is only context.

    python scripts/make_sample_corpus.py data/sample
"""

import argparse
import hashlib
import json
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SEED = 20140909
TOKENS = {"train": 40_000, "valid": 5_000, "test": 5_000}

Distribution = dict[str, float]

TOPIC_STAYS = 0.9
UNKNOWN_NOUN = 0.02
SHARED_NOUN = 0.25
SHARED_VERB = 0.3

# For each topic: singular nouns, third-person verbs and adjectives, in order of frequency.
TOPICS = {
    "sea": (
        "boat fish sailor wave harbour island storm net captain anchor gull whale sail tide",
        "sails drifts floats sinks dives swims anchors fishes",
        "blue deep salty calm stormy wet",
    ),
    "kitchen": (
        "cook pot spoon soup oven loaf knife plate onion kettle bowl guest recipe stove",
        "cooks boils bakes burns stirs tastes fries simmers",
        "hot sweet fresh spicy bitter crisp",
    ),
    "market": (
        "trader price stall coin buyer seller cart bargain shop customer basket debt ledger scale",
        "sells buys trades pays haggles lends owes counts",
        "cheap rich costly honest busy fair",
    ),
    "school": (
        "teacher book pupil lesson desk exam class letter poem pen question answer map word",
        "reads writes learns teaches studies asks explains spells",
        "clever quiet young strict simple long",
    ),
}
SHARED_NOUNS = "man woman child friend neighbour dog day house"
SHARED_VERBS = "waits helps sees moves likes finds"
SHARED_ADJECTIVES = "old small new good"
IRREGULAR_PLURALS = {
    "fish": "fishes", "man": "men", "woman": "women", "child": "children", "loaf": "loaves",
    "knife": "knives", "class": "classes", "recipe": "recipes",
}  # fmt: skip
DETERMINERS = {
    "one": {"the": 0.5, "a": 0.3, "this": 0.1, "every": 0.1},
    "many": {"the": 0.5, "some": 0.25, "these": 0.1, "many": 0.15},
}
PREPOSITIONS = {"near": 0.3, "behind": 0.2, "with": 0.25, "under": 0.15, "beside": 0.1}
ADVERBS = {"slowly": 0.3, "often": 0.25, "again": 0.2, "today": 0.15, "together": 0.1}
OPENERS = {"either": "or", "if": "then"}


class State(NamedTuple):
    """A hidden state: the slot in the clause and everything that determines the next states.

    Attributes:
        slot: kind of the current word.
        topic: topic of the sentence.
        number: grammatical number of the head noun, "one" or "many".
        opened: opener whose second word is still required; "" for none.
        noun_number: grammatical number of the current noun phrase.
    """

    slot: str
    topic: str
    number: str
    opened: str
    noun_number: str


@dataclass(frozen=True)
class Grammar:
    """A hidden Markov model.

    Attributes:
        words: all words, sorted.
        start: probability of each state at the first word of a text, [S].
        transitions: probability of each next state (column) after a state (row), [S, S].
        emissions: probability of each word in each state, [S, V].
    """

    words: list[str]
    start: NDArray[np.float64]
    transitions: NDArray[np.float64]
    emissions: NDArray[np.float64]


def clause_start(topic: str, opened: str) -> Iterator[tuple[float, State]]:
    """Yields the states at the start of a clause, the determiner of its head noun."""
    for number, share in (("one", 0.6), ("many", 0.4)):
        yield share, State("head determiner", topic, number, opened, number)


def sentence_start(topic: str) -> Iterator[tuple[float, State]]:
    """Yields the states at the start of a sentence: of a clause, or of an opener."""
    for share, state in clause_start(topic, ""):
        yield 0.6 * share, state
    for opener, share in (("either", 0.2), ("if", 0.2)):
        yield share, State("opener", topic, "", opener, "")


def successors(state: State) -> Iterator[tuple[float, State]]:
    """Yields the possible next states with their probabilities."""
    slot, topic, opened = state.slot, state.topic, state.opened
    match slot:
        case "opener" | "closer":
            yield from clause_start(topic, opened if slot == "opener" else "")
        case "head determiner":
            yield 0.35, state._replace(slot="head adjective")
            yield 0.65, state._replace(slot="head noun")
        case "head adjective":
            yield 1.0, state._replace(slot="head noun")
        case "head noun" | "other noun":
            again = 0.45 if slot == "head noun" else 0.25
            yield again, state._replace(slot="preposition", noun_number="")
            yield 1 - again, state._replace(slot="verb", noun_number="")
        case "preposition":
            for other, share in (("one", 0.5), ("many", 0.5)):
                yield share, state._replace(slot="other determiner", noun_number=other)
        case "other determiner":
            yield 1.0, state._replace(slot="other noun")
        case "verb":
            for other, share in (("one", 0.5), ("many", 0.5)):
                yield 0.5 * share, state._replace(slot="object determiner", noun_number=other)
            yield 0.3, state._replace(slot="adverb")
            yield from _clause_end(topic, opened, 0.2)
        case "object determiner":
            yield 0.3, state._replace(slot="object adjective")
            yield 0.7, state._replace(slot="object noun")
        case "object adjective":
            yield 1.0, state._replace(slot="object noun")
        case "object noun" | "adverb":
            yield from _clause_end(topic, opened, 1.0)
        case "end":
            for next_topic in TOPICS:
                stays = TOPIC_STAYS if next_topic == topic else 0.0
                share = stays + (1 - TOPIC_STAYS) / len(TOPICS)
                for start_share, start in sentence_start(next_topic):
                    yield share * start_share, start


def _clause_end(topic: str, opened: str, share: float) -> Iterator[tuple[float, State]]:
    slot = "closer" if opened else "end"
    yield share, State(slot, topic, "", opened, "")


def emissions(state: State) -> Distribution:
    """Returns the words that a state can emit, with their probabilities."""
    nouns, verbs, adjectives = (text.split() for text in TOPICS[state.topic])
    kind = state.slot.split()[-1]
    match kind:
        case "opener":
            return {state.opened: 1.0}
        case "closer":
            return {OPENERS[state.opened]: 1.0}
        case "determiner":
            return DETERMINERS[state.noun_number]
        case "adjective":
            return _mixed(zipf(adjectives), zipf(SHARED_ADJECTIVES.split()), 0.4)
        case "noun":
            own, shared = zipf(nouns), zipf(SHARED_NOUNS.split())
            mixed = _mixed(own, shared, SHARED_NOUN)
            if state.noun_number == "many":
                mixed = {plural(noun): share for noun, share in mixed.items()}
            return _mixed(mixed, {"<unk>": 1.0}, UNKNOWN_NOUN)
        case "verb":
            mixed = _mixed(zipf(verbs), zipf(SHARED_VERBS.split()), SHARED_VERB)
            if state.number == "many":
                mixed = {base_form(verb): share for verb, share in mixed.items()}
            return mixed
        case "preposition":
            return PREPOSITIONS
        case "adverb":
            return ADVERBS
        case _:
            return {"<eos>": 1.0}


def zipf(words: list[str]) -> Distribution:
    """Returns probabilities that are inversely proportional to the rank (Zipf's law)."""
    total = sum(1 / (rank + 1) for rank in range(len(words)))
    return {word: 1 / (rank + 1) / total for rank, word in enumerate(words)}


def plural(noun: str) -> str:
    """Returns the plural of a noun."""
    return IRREGULAR_PLURALS.get(noun, noun + "s")


def base_form(verb: str) -> str:
    """Returns the base form of a third-person verb."""
    special = {"fishes": "fish", "teaches": "teach", "studies": "study", "fries": "fry"}
    return special.get(verb, verb[:-1])


def _mixed(most: Distribution, rest: Distribution, share_of_rest: float) -> Distribution:
    mixed = {word: (1 - share_of_rest) * share for word, share in most.items()}
    for word, share in rest.items():
        mixed[word] = mixed.get(word, 0.0) + share_of_rest * share
    return mixed


def build_grammar() -> Grammar:
    """Builds the grammar from all reachable states."""
    starts = [
        (share / len(TOPICS), state) for topic in TOPICS for share, state in sentence_start(topic)
    ]
    states = [state for _, state in starts]
    index = {state: number for number, state in enumerate(states)}
    for state in states:  # grows during iteration
        for _, successor in successors(state):
            if successor not in index:
                index[successor] = len(states)
                states.append(successor)
    words = sorted({word for state in states for word in emissions(state)})
    word_index = {word: number for number, word in enumerate(words)}
    start = np.zeros(len(states))
    for share, state in starts:
        start[index[state]] += share
    transitions = np.zeros((len(states), len(states)))
    shown = np.zeros((len(states), len(words)))
    for state, row in index.items():
        for share, successor in successors(state):
            transitions[row, index[successor]] += share
        for word, share in emissions(state).items():
            shown[row, word_index[word]] = share
    return Grammar(words, start, transitions, shown)


def draw(grammar: Grammar, tokens: int, seed: str) -> list[list[str]]:
    """Returns random sentences with at least `tokens` tokens in total, including `<eos>`."""
    # random() returns the same values in every Python version; other methods may change.
    source = random.Random(seed)  # noqa: S311 - not for cryptography
    ends = np.cumsum(grammar.transitions, axis=1)
    shows = np.cumsum(grammar.emissions, axis=1)
    state = _pick(np.cumsum(grammar.start), source)
    sentences: list[list[str]] = []
    sentence: list[str] = []
    count = 0
    while count < tokens or sentence:
        word = grammar.words[_pick(shows[state], source)]
        count += 1
        if word == "<eos>":
            sentences.append(sentence)
            sentence = []
        else:
            sentence.append(word)
        state = _pick(ends[state], source)
    return sentences


def _pick(cumulative: NDArray[np.float64], source: random.Random) -> int:
    point = source.random() * cumulative[-1]
    return int(np.searchsorted(cumulative, point, side="right"))


def negative_log_likelihoods(grammar: Grammar, words: Iterable[str]) -> list[float]:
    """Returns -log p(word | all previous words) of each word in nats (forward algorithm)."""
    word_index = {word: number for number, word in enumerate(grammar.words)}
    belief = grammar.start  # distribution of the state given the previous words, [S]
    result = []
    for word in words:
        joint = belief * grammar.emissions[:, word_index[word]]
        probability = joint.sum()
        result.append(-math.log(probability))
        belief = (joint / probability) @ grammar.transitions
    return result


def main() -> None:
    """Writes train.txt, valid.txt, test.txt and entropy_bound.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    grammar = build_grammar()
    splits = {}
    for split, tokens in TOKENS.items():
        sentences = draw(grammar, tokens, f"{SEED}/{split}")
        # Lines start and end with a space, as in the Penn Treebank.
        text = "".join(f" {' '.join(sentence)} \n" for sentence in sentences)
        (directory / f"{split}.txt").write_text(text, encoding="utf-8")
        words = [word for sentence in sentences for word in [*sentence, "<eos>"]]
        print(f"{split}: {len(sentences):,} sentences, {len(words):,} tokens")
        if split == "train":
            continue  # no bound: a model can memorize its training text
        nll = negative_log_likelihoods(grammar, words)[1:]
        nats = math.fsum(nll) / len(nll)
        splits[split] = {
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "tokens": len(nll),
            "nats_per_token": nats,
            "perplexity": math.exp(nats),
        }
        print(f"  entropy bound {nats:.4f} nats per token, perplexity {math.exp(nats):.4f}")
    bounds = json.dumps({"tokenizer": "word", "splits": splits}, indent=2) + "\n"
    (directory / "entropy_bound.json").write_text(bounds, encoding="utf-8")


if __name__ == "__main__":
    main()
