"""Slopes on logarithmic axes, and what they lead to."""

from __future__ import annotations

import math

import pytest
from bench.slope import beyond, slope, steps
from hypothesis import given
from hypothesis import strategies as st

SIZES = [1000, 3000, 10_000, 30_000, 100_000]


@given(st.floats(-2, 3), st.floats(0.001, 1000))
def test_the_slope_of_a_power_is_its_exponent_and_it_goes_on_as_such(exponent, factor):
    points = [(size, factor * size**exponent) for size in SIZES]
    assert slope(points) == pytest.approx(exponent, abs=1e-6)
    assert beyond(points, [1_000_000]) == [(1_000_000, pytest.approx(factor * 1_000_000**exponent, rel=1e-5))]


def test_what_a_program_costs_at_any_size_does_not_hide_that_it_grows():
    assert slope([(size, 5.0 if size < 10_000 else size / 2000) for size in SIZES]) == pytest.approx(1)


def test_only_sizes_beyond_those_measured_are_foretold():
    points = [(size, size) for size in SIZES]
    assert [size for size, _ in beyond(points, [1000, 100_000, 1_000_000])] == [1_000_000]


@pytest.mark.parametrize("points", [[], [(1000, 2)], [(1000, 0), (3000, 0)], [(1000, 0), (3000, 1)]])
def test_there_is_no_slope_without_two_figures(points):
    assert slope(points) is None
    assert beyond(points, [math.inf]) == []


def test_sizes_grow_threefold_and_then_to_the_next_power_of_ten():
    assert steps(10, 1000) == [10, 30, 100, 300, 1000]
    assert steps(1000, 40_000) == [1000, 3000, 10_000, 30_000]
    assert steps(1000, 999) == []
