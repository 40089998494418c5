"""The order of a training stream: epoch after epoch, each a shuffle of its own, nothing stored.

It is grain's, which runs of version 0.1 began with: Simon's block cipher (eprint.iacr.org/2013/404)
in four rounds over the smallest even number of bits, at least 16, walked on until the number is one
of the set's (cycle walking). Where the last image's number is a power of 2, grain takes a bit too
few and leaves that image out; such a set has another order here. Many positions are walked at once:
one alone takes grain 25 µs, and small sets walk farthest, 50 rounds for a thousand images.
"""

import functools

import numpy as np

_ROUNDS = 4
_LEAST_BITS = 16
_CHUNK = 4096  # neighbouring positions that are found together


class ShuffledOrder:
    """order[position] → which of `size` images stands there; all are there once an epoch.

    A function of (size, seed, position). seed: 0 to 2**32 - 1.
    """

    def __init__(self, size: int, seed: int):
        self._size = size
        # As grain hands a seed on: 1 is how far its shuffle lies from what holds the seed.
        self._seed = int(np.random.SeedSequence((seed, 1)).generate_state(1)[0])
        self._chunk = functools.lru_cache(maxsize=4)(self._found)

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, self._size)
        chunk, place = divmod(place, _CHUNK)
        return self._chunk(epoch, chunk)[place]

    def _found(self, epoch: int, chunk: int) -> list[int]:
        start = chunk * _CHUNK
        places = np.arange(start, min(start + _CHUNK, self._size), dtype=np.int64)
        return shuffled(places, self._size, (self._seed + epoch) % 2**32).tolist()


def shuffled(places: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Where each place (N,) int64 of `size` goes in the shuffle of a seed: (N,) int64."""
    if size == 1:
        return np.zeros_like(places)
    bits = (size - 1).bit_length()
    bits = max(bits + bits % 2, _LEAST_BITS)
    keys = _round_keys(seed)
    places = places & 2**bits - 1
    if bits == _LEAST_BITS:
        return _walked_in_hops(places, size, keys)
    found = _encrypted(places, bits // 2, keys)
    out = np.flatnonzero(found >= size)
    walking = found[out]
    while len(out):
        walking = _encrypted(walking, bits // 2, keys)
        left = walking >= size
        found[out[~left]] = walking[~left]
        out, walking = out[left], walking[left]
    return found


def _walked_in_hops(places: np.ndarray, size: int, keys: list[int]) -> np.ndarray:
    """As the walk above, of a small set: by a table of all numbers, many steps at a time."""
    number = 2**_LEAST_BITS
    table = _encrypted(np.arange(number, dtype=np.uint16), _LEAST_BITS // 2, keys).astype(np.int64)
    hop = np.where(np.arange(number) < size, np.arange(number), table)
    for _ in range(max(0, int(np.log2(number / size)) - 2)):
        hop = hop[hop]  # twice as far, or to the first number of the set's
    found = table[places]
    while (found >= size).any():
        found = hop[found]
    return found


def _encrypted(values: np.ndarray, width: int, keys: list[int]) -> np.ndarray:
    """Integers (N,) of 2 · width bits through Simon's rounds."""
    mask = 2**width - 1

    def turned(half: np.ndarray, by: int) -> np.ndarray:
        return (half << by | half >> width - by) & mask

    def mixed(half: np.ndarray) -> np.ndarray:
        return turned(half, 1) & turned(half, 8) ^ turned(half, 2)

    left, right = values >> width, values & mask
    for one, two in zip(keys[::2], keys[1::2], strict=True):
        left = left ^ mixed(right) ^ (one & mask)
        right = right ^ mixed(left) ^ (two & mask)
    return left << width | right


def _round_keys(seed: int) -> list[int]:
    """The round keys of a seed: C++'s std::seed_seq of it alone, four numbers of 32 bits."""
    keys, given = [0x8B8B8B8B] * _ROUNDS, [seed]

    def scrambled(value: int, factor: int) -> int:
        value %= 2**32
        return factor * (value ^ value >> 27) % 2**32

    for k in range(2 * _ROUNDS):
        here, near, far, last = (i % _ROUNDS for i in (k, k + 1, k + 2, k - 1))
        if k < _ROUNDS:
            more = len(given) if k == 0 else k + given[0] if k == 1 else k
            first = scrambled(keys[here] ^ keys[near] ^ keys[last], 1664525)
            second = (first + more) % 2**32
            keys[near], keys[far] = (keys[near] + first) % 2**32, (keys[far] + second) % 2**32
        else:
            first = scrambled(keys[here] + keys[near] + keys[last], 1566083941)
            second = (first - here) % 2**32
            keys[near], keys[far] = keys[near] ^ first, keys[far] ^ second
        keys[here] = second
    return keys
