import types

import psutil
import pytest

from completions_lp.work import machine


def test_the_peak_is_at_least_what_is_held_now():
    now = psutil.Process().memory_info().rss / 2**30
    assert machine.read_peak() >= now - 0.01


def test_without_the_kernels_mark_it_is_the_peak_of_the_process(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_STATUS", tmp_path / "none")
    assert machine.read_peak() >= psutil.Process().memory_info().rss / 2**30 - 0.01
    monkeypatch.setattr(psutil, "WINDOWS", True)
    told = types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(peak_wset=3 * 2**30))
    monkeypatch.setattr(psutil, "Process", lambda: told)
    assert machine.read_peak() == pytest.approx(3)
