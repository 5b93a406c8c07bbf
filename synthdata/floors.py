"""Floors: what predictors that understand nothing score, so that an accuracy is read against them and not against zero.

All are fitted on training examples and predict the whole answer (every scored token) from the prompt (the tokens before
the first of them). Shapes in names: N = example, L = prompt position, M = answer position, J = row, K = column.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthdata.examples import UNSCORED, Examples
from synthdata.streams import BLOCK, Stream, evaluation_set
from synthdata.task import Task
from synthdata.vocabulary import PAD

TRAINING_EXAMPLES = 64 * BLOCK
"""Examples of the training stream that the predictors are fitted on: all of a small task many times over, a sample of a
large one (whose floors are then too low where they rest on having seen nearly everything)."""

_NOTHING = -1

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Questions:
    """Prompts with their last token at the right edge and answers with their first at the left, padded; an answer is
    also an `answer_id_N`, shared with the questions it was numbered together with."""

    prompt_NL: Ints
    prompt_length_N: Ints
    answer_NM: Ints
    answer_id_N: Ints

    def __getitem__(self, index: slice | Ints) -> "_Questions":
        return _Questions(
            self.prompt_NL[index], self.prompt_length_N[index], self.answer_NM[index], self.answer_id_N[index]
        )


def floors(task: Task, data_seed: int, split: str, limit: int) -> dict[str, float]:
    """Accuracy, on the split's `evaluation_set` of at most `limit` examples, of four predictors.

    - `constant`: the commonest training answer.
    - `ngram`: the commonest answer after the longest suffix of the prompt, of at most n tokens, that training holds.
    - `row_matching`: the prompt without its last varying token is a row, that token a column; the missing entry of a
      row is taken from the rows that share most entries with it and contradict none (else as `ngram`). On compositions
      split at random this finds the rows that pass through the same bridge, without any fact or composition.
    - `copy`: the prompt's own tokens from one place on, counted from either end.

    The best n and the best place are chosen on the evaluated examples themselves: a floor errs upwards.
    """
    training = Stream(task, data_seed, order_seed=0).examples(0, TRAINING_EXAMPLES)
    evaluated = evaluation_set(task, data_seed, split, limit)
    train, test = _questions(training, evaluated)
    by_suffix = _ngram_predictions(train, test)
    ngram = max(by_suffix, key=lambda predicted_N: _accuracy(predicted_N, test))
    return {
        "constant": _accuracy(by_suffix[0], test),
        "ngram": _accuracy(ngram, test),
        "row_matching": _accuracy(_row_matching_predictions(train, test, ngram), test),
        "copy": _copy_accuracy(test),
    }


def _accuracy(predicted_N: Ints, test: _Questions) -> float:
    return float(np.mean(predicted_N == test.answer_id_N))


def _questions(training: Examples, evaluated: Examples) -> tuple[_Questions, _Questions]:
    """Both sets as questions, with answers numbered together."""
    width = max(training.tokens_NL.shape[1], evaluated.tokens_NL.shape[1])
    both = [_split(examples, width) for examples in (training, evaluated)]
    prompt_NL, length_N, answer_NM = (np.concatenate(arrays) for arrays in zip(*both, strict=True))
    answer_NM = answer_NM[:, (answer_NM != PAD).any(axis=0)]
    answer_id_N = np.zeros(len(answer_NM), dtype=np.int64)
    for token_N in answer_NM.T:
        answer_id_N = _pair_ids(answer_id_N, token_N)
    questions = _Questions(prompt_NL, length_N, answer_NM, answer_id_N)
    return questions[: len(training)], questions[len(training) :]


def _split(examples: Examples, width: int) -> tuple[Ints, Ints, Ints]:
    scored_NL = examples.scored_NL != UNSCORED
    length_N = scored_NL.argmax(axis=1)
    n, position = np.nonzero(np.arange(scored_NL.shape[1]) < length_N[:, None])
    prompt_NL = np.full((len(examples), width), PAD, dtype=np.int64)
    prompt_NL[n, width - length_N[n] + position] = examples.tokens_NL[n, position]
    n, position = np.nonzero(scored_NL)
    answer_NM = np.full((len(examples), width), PAD, dtype=np.int64)
    answer_NM[n, (np.cumsum(scored_NL, axis=1) - 1)[n, position]] = examples.tokens_NL[n, position]
    return prompt_NL, length_N, answer_NM


def _pair_ids(left_N: Ints, right_N: Ints) -> Ints:
    """Equal ids for equal pairs, 0 … number of distinct pairs - 1."""
    return np.unique(left_N * (right_N.max() + 1) + right_N, return_inverse=True)[1]


def _commonest(key_N: Ints, answer_id_N: Ints, keys: int) -> Ints:
    """For each key 0 … keys - 1 the commonest answer (of equals the lowest id), or `_NOTHING`."""
    answers = int(answer_id_N.max()) + 1
    pairs, counts = np.unique(key_N * answers + answer_id_N, return_counts=True)
    rarest_first = np.lexsort((-pairs, counts))
    best = np.full(keys, _NOTHING, dtype=np.int64)
    best[pairs[rarest_first] // answers] = pairs[rarest_first] % answers
    return best


def _ngram_predictions(train: _Questions, test: _Questions) -> list[Ints]:
    """Predicted answer ids from suffixes of at most 0, 1, 2, … prompt tokens; the first is the constant predictor."""
    prompt_NL = np.concatenate([train.prompt_NL, test.prompt_NL])
    suffix_N = np.zeros(len(prompt_NL), dtype=np.int64)
    predictions: list[Ints] = []
    longest = int(max(train.prompt_length_N.max(), test.prompt_length_N.max()))
    for n in range(longest + 1):
        if n:
            suffix_N = _pair_ids(suffix_N, prompt_NL[:, -n])
        best = _commonest(suffix_N[: len(train.prompt_NL)], train.answer_id_N, int(suffix_N.max()) + 1)
        found_N = best[suffix_N[len(train.prompt_NL) :]]
        predictions.append(found_N if n == 0 else np.where(found_N == _NOTHING, predictions[-1], found_N))
    return predictions


def _row_matching_predictions(train: _Questions, test: _Questions, fallback_N: Ints) -> Ints:
    """Row matching within prompts of equal length; `fallback_N` where no row answers."""
    predicted_N = fallback_N.copy()
    for length in np.unique(test.prompt_length_N):
        here_N = np.flatnonzero(test.prompt_length_N == length)
        known = train[np.flatnonzero(train.prompt_length_N == length)]
        found_N = _match_rows(known, test[here_N])
        predicted_N[here_N] = np.where(found_N == _NOTHING, fallback_N[here_N], found_N)
    return predicted_N


def _match_rows(train: _Questions, test: _Questions) -> Ints:
    """Answers of `test` read off the rows of `train`, or `_NOTHING`; all prompts are equally long.

    The table is kept as its known entries (E = entry: row, column, answer), so that memory stays that of the examples.
    """
    found_N = np.full(len(test.answer_id_N), _NOTHING, dtype=np.int64)
    varying = np.flatnonzero((train.prompt_NL != train.prompt_NL[:1]).any(axis=0))
    if len(varying) == 0:
        return found_N
    prompt_NL = np.concatenate([train.prompt_NL, test.prompt_NL])
    column_N = _pair_ids(np.zeros(len(prompt_NL), dtype=np.int64), prompt_NL[:, varying[-1]])
    row_N = np.zeros(len(prompt_NL), dtype=np.int64)
    for token_N in np.delete(prompt_NL, varying[-1], axis=1).T:
        row_N = _pair_ids(row_N, token_N)
    rows, columns = int(row_N.max()) + 1, int(column_N.max()) + 1

    place_N = row_N * columns + column_N
    trained = len(train.answer_id_N)
    place_E, entry_N = np.unique(place_N[:trained], return_inverse=True)
    row_E, column_E = place_E // columns, place_E % columns
    answer_E = _commonest(entry_N, train.answer_id_N, len(place_E))
    test_row_N, test_column_N = row_N[trained:], column_N[trained:]
    for row in np.intersect1d(test_row_N, row_E):
        mine_K = np.full(columns, _NOTHING, dtype=np.int64)
        mine_K[column_E[row_E == row]] = answer_E[row_E == row]
        mine_E = mine_K[column_E]
        agreements_J = np.bincount(row_E[mine_E == answer_E], minlength=rows)
        conflicts_J = np.bincount(row_E[(mine_E != answer_E) & (mine_E != _NOTHING)], minlength=rows)
        score_E = np.where(conflicts_J == 0, agreements_J, 0)[row_E]
        for n in np.flatnonzero(test_row_N == row):
            score = np.where(column_E == test_column_N[n], score_E, 0)
            if score.max() > 0:
                found_N[n] = np.bincount(answer_E[score == score.max()]).argmax()
    return found_N


def _copy_accuracy(test: _Questions) -> float:
    """The best accuracy of copying as many prompt tokens as the answer has, from one place on."""
    answer_length_N = (test.answer_NM != PAD).sum(axis=1)
    width, longest = test.prompt_NL.shape[1], int(test.prompt_length_N.max())
    best = 0.0
    for from_the_right in (True, False):
        for offset in range(1, longest + 1):
            start_N = width - offset if from_the_right else width - test.prompt_length_N + offset - 1
            position_NM = np.reshape(start_N, (-1, 1)) + np.arange(test.answer_NM.shape[1])
            copied_NM = np.take_along_axis(test.prompt_NL, np.minimum(position_NM, width - 1), axis=1)
            wrong_NM = (copied_NM != test.answer_NM) | (position_NM >= width)
            inside_NM = np.arange(test.answer_NM.shape[1]) < answer_length_N[:, None]
            best = max(best, float(np.mean(~(wrong_NM & inside_NM).any(axis=1))))
    return best
