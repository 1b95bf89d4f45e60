"""Blocks of a request, whatever order, repetition and malice they come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.coap_blocks import Blocks, Step

SIZE = 64


def send(blocks: Blocks, whole: bytes, number: int, *, key: object = "a", now: float = 0.0) -> bytes | Step:
    part = whole[number * SIZE : (number + 1) * SIZE]
    return blocks.take(key, number, SIZE, part, now, more=(number + 1) * SIZE < len(whole))


@given(st.binary(min_size=1, max_size=1_000), st.lists(st.integers(0, 3), min_size=20, max_size=20))
def test_a_request_is_whole_with_its_last_block(whole: bytes, repeats: list[int]) -> None:
    blocks = Blocks(10_000)
    last = (len(whole) - 1) // SIZE
    for number in range(last):
        for _ in range(1 + repeats[number]):  # an answer that was lost makes a block come again
            assert send(blocks, whole, number) is Step.CONTINUE
    assert send(blocks, whole, last) == whole
    assert (len(blocks), blocks.bytes) == (0, 0)


def test_a_gap_is_told_and_the_request_can_begin_again() -> None:
    blocks, whole = Blocks(10_000), bytes(range(250)) * 2
    assert send(blocks, whole, 3) is Step.INCOMPLETE
    assert send(blocks, whole, 0) is Step.CONTINUE
    assert send(blocks, whole, 2) is Step.INCOMPLETE
    assert [send(blocks, whole, number) for number in range(8)][-1] == whole


def test_a_block_may_become_smaller_on_the_way() -> None:
    blocks = Blocks(10_000)
    assert blocks.take("a", 0, 128, b"a" * 128, 0.0, more=True) is Step.CONTINUE
    assert blocks.take("a", 4, 32, b"b" * 32, 0.0, more=True) is Step.CONTINUE
    assert blocks.take("a", 5, 32, b"c", 0.0, more=False) == b"a" * 128 + b"b" * 32 + b"c"


def test_a_block_that_is_not_of_its_size_is_refused() -> None:
    assert Blocks(10_000).take("a", 0, 64, b"a" * 63, 0.0, more=True) is Step.BAD


def test_what_becomes_too_large_is_refused_as_soon_as_that_is_known() -> None:
    blocks = Blocks(200)
    assert blocks.take("a", 0, 64, b"a" * 64, 0.0, more=True, announced=201) is Step.TOO_LARGE
    assert send(blocks, bytes(1_000), 0) is Step.CONTINUE
    assert blocks.take("a", 1_000_000, 64, b"a" * 64, 0.0, more=True) is Step.TOO_LARGE
    assert (len(blocks), blocks.bytes) == (0, 0)


def test_peers_that_never_end_cost_no_more_than_allowed() -> None:
    blocks = Blocks(10_000, peers=100, size=20_000)
    whole = bytes(1_000)
    for peer in range(10_000):
        send(blocks, whole, 0, key=peer)
        if peer % 2:
            send(blocks, whole, 1, key=peer)
        assert len(blocks) <= 100
        assert blocks.bytes <= 20_000


def test_the_one_that_goes_on_outlives_those_that_are_silent() -> None:
    blocks, whole = Blocks(10_000, peers=10), bytes(range(100)) * 6
    for number in range(9):
        for flood in range(8):
            send(blocks, whole, 0, key=(number, flood))
        assert send(blocks, whole, number, key="honest") is Step.CONTINUE
    assert send(blocks, whole, 9, key="honest") == whole


def test_a_peer_that_was_silent_for_long_is_forgotten() -> None:
    blocks, whole = Blocks(10_000), bytes(500)
    send(blocks, whole, 0)
    assert send(blocks, whole, 1, now=246.0) is Step.CONTINUE
    assert send(blocks, whole, 2, now=246.0 + 248) is Step.INCOMPLETE
