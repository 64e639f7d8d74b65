"""Told bouts against true ones, a letter a frame: `.` counts neither way, `?` is unknown, `*` a group of activities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.scoring.segments import IGNORED, Comparison, LostTime, SegmentFigures, compare, edit_score, segment_figures

LABELS = "ABC"


def compared(truth: str, told: str) -> Comparison:
    numbers = {letter: i for i, letter in enumerate(LABELS)} | {".": IGNORED, "?": len(LABELS), "*": len(LABELS) + 1}
    true = np.array([numbers[letter] for letter in truth], np.int64)
    stretch = np.concatenate([[0], np.cumsum(true[1:] != true[:-1])])
    answers = np.array([numbers[letter] for letter in told], np.int64)
    return compare(true, np.where(true == IGNORED, IGNORED, stretch), answers, len(LABELS))


def figures(truth: str, told: str) -> SegmentFigures:
    return segment_figures([compared(truth, told)], frame_s=1.0)


def test_what_is_told_as_it_was_done_is_all_right() -> None:
    found = figures("AAAA.BBBB.CC", "AAAAABBBBBCC")
    assert (found.bout_f1, found.edit_score, found.true_bouts, found.told_bouts) == (1.0, 1.0, 3, 3)
    assert (found.inserted, found.deleted, found.fragmented, found.merges) == (0, 0, 0, 0)
    assert found.lost_time == LostTime(deletion=0, underfill=0, fragmentation=0, insertion=0, overfill=0, merge=0)


def test_another_activity_inside_a_bout_is_an_insertion_and_two_fragments() -> None:
    found = figures("AAAAAAAA", "AAACCAAA")
    assert (found.inserted, found.fragmented, found.fragmentation, found.deleted) == (1, 1, 1.0, 0)
    assert found.insertions_per_h == pytest.approx(3600 / 8)
    assert found.edit_score == pytest.approx(1 - 2 / 3)
    # Neither piece has half of the bout.
    assert found.bout_f1_by_overlap == {"0.1": pytest.approx(2 / 4), "0.25": pytest.approx(2 / 4), "0.5": 0.0}
    assert (found.lost_time.fragmentation, found.lost_time.insertion) == (0.25, 0.25)


@pytest.mark.parametrize("between", ["??", "**"])
def test_unknown_or_a_group_inside_a_bout_leaves_two_fragments_and_inserts_nothing(between: str) -> None:
    found = figures("AAAAAAAA", f"AAA{between}AAA")
    assert (found.inserted, found.fragmented, found.told_bouts) == (0, 1, 2)
    assert (found.lost_time.fragmentation, found.lost_time.insertion, found.lost_time.overfill) == (0.25, 0, 0)


def test_two_bouts_told_as_one_are_a_merge_and_what_was_between_them_is_deleted() -> None:
    found = figures("AAABBAAA", "AAAAAAAA")
    assert (found.merges, found.deleted, found.inserted, found.fragmented) == (1, 1, 0, 0)
    assert (found.lost_time.merge, found.lost_time.deletion) == (0.25, 0.25)


def test_a_change_told_late_is_overfill_of_the_one_and_underfill_of_the_other() -> None:
    found = figures("AAAAABBBBB", "AAAAAAABBB")
    assert (found.bout_f1, found.edit_score, found.inserted) == (1.0, 1.0, 0)
    assert (found.lost_time.overfill, found.lost_time.underfill) == (0.2, 0.2)


@pytest.mark.parametrize("told", ["AAAAAAAAAAA", "AAAA???AAAA", "AAAACCCAAAA", "AAA?CCCAAAA", "AAAA?CCCAAA"])
def test_what_is_told_of_a_pause_that_counts_neither_way_is_neither_right_nor_wrong(told: str) -> None:
    found = figures("AAAA...AAAA", told)
    assert (found.bout_f1, found.edit_score, found.true_bouts, found.told_bouts) == (1.0, 1.0, 2, 2)
    assert (found.inserted, found.fragmented, found.merges) == (0, 0, 0)


def test_what_reaches_from_a_pause_into_a_bout_costs_its_frames_only() -> None:
    found = figures("AAAA...BBBB", "AAAACCCCBBB")
    assert (found.inserted, found.edit_score, found.bout_f1) == (0, 1.0, 1.0)
    assert (found.lost_time.overfill, found.lost_time.underfill, found.lost_time.insertion) == (0.125, 0.125, 0)


def test_what_lies_mostly_in_counted_time_is_an_insertion() -> None:
    assert figures("AAAA.BBBB", "AAAACCCBB").inserted == 1


def test_nothing_told_is_all_deleted() -> None:
    found = figures("AAAABB", "??????")
    assert (found.bout_f1, found.edit_score, found.deleted, found.lost_time.deletion) == (0.0, 0.0, 2, 1.0)


def test_one_true_bout_is_matched_once() -> None:
    found = figures("A" * 10, "AAAAA?AAAA")
    assert found.bout_f1_by_overlap == {name: pytest.approx(2 / 3) for name in ("0.1", "0.25", "0.5")}


def test_recordings_are_summed_and_their_edit_scores_averaged() -> None:
    found = segment_figures([compared("AAAA", "AAAA"), compared("BBBB", "?CC?"), compared("....", "AAAA")], frame_s=450)
    assert (found.true_bouts, found.told_bouts, found.inserted, found.insertions_per_h) == (2, 2, 1, 1.0)
    assert (found.bout_f1, found.edit_score) == (0.5, 0.5)
    with pytest.raises(ValueError, match="no labelled frames"):
        segment_figures([compared("....", "AAAA")], frame_s=1.0)


def test_edit_score_counts_what_must_be_changed() -> None:
    assert edit_score([], []) == 1.0
    assert edit_score([0, 1, 2], [0, 2]) == pytest.approx(1 - 1 / 3)
    assert edit_score([1, 0], [0, 1]) == 0.0
    assert edit_score([0], [1, 0, 2, 0]) == pytest.approx(1 - 3 / 4)


frames = st.lists(st.tuples(st.sampled_from(".ABC"), st.sampled_from("?*ABC")), min_size=1, max_size=60)


@given(frames)
def test_every_wrong_frame_is_lost_to_one_thing_of_the_true_bout_and_one_of_the_told_one(
    pairs: list[tuple[str, str]],
) -> None:
    truth, told = ("".join(letters) for letters in zip(*pairs, strict=True))
    found = compared(truth, told)
    wrong = [b for a, b in pairs if a not in {".", b}]
    assert found.lost["deletion"] + found.lost["underfill"] + found.lost["fragmentation"] == len(wrong)
    named = sum(letter in LABELS for letter in wrong)
    assert found.lost["insertion"] + found.lost["overfill"] + found.lost["merge"] == named
    assert list(found.matched) == sorted(found.matched, reverse=True)
    assert found.matched[0] <= min(found.true - found.deleted, found.told - found.inserted)
    assert found.fragmented <= found.true
