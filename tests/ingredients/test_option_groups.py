"""Groups of options that several methods include: one name means one thing."""

from __future__ import annotations

import pytest

from semiseg.ingredients.ema import TeacherOptions, make_teacher
from semiseg.ingredients.ramps import RampOptions, ramp_up
from semiseg.methods.base import MethodConfig, entry, registry
from semiseg.networks import build_network
from stand_ins import clock

OWN = {"predict_with", "loss"}
"""Names whose meaning is the method's own."""


def groups(config):
    return [base for base in config.__mro__ if base not in (config, MethodConfig) and hasattr(base, "model_fields")]


def test_methods_agree_about_the_options_that_they_share():
    found = {}
    for name in registry():
        config = entry(name).cls.Config
        for option, field in config.model_fields.items():
            if option not in OWN and any(option in group.model_fields for group in groups(config)):
                found.setdefault(option, set()).add((str(field.annotation), str(field.metadata)))
    assert len(found) > 30
    assert [option for option, kinds in found.items() if len(kinds) > 1] == []


@pytest.mark.parametrize("unit", ["run", "epochs", "units150", "none"])
def test_ramp_of_options_is_the_ramp(unit):
    options, at = RampOptions(ramp=unit, ramp_length=0.5), clock(30, 100, 3, 10)
    assert options.ramp_up(at) == ramp_up(at, unit, 0.5)


def test_teachers_are_made_by_their_options():
    net = build_network("unet", channels=1, classes=2, spatial_dims=2, filters=(2, 4))
    teacher = make_teacher(net, TeacherOptions(decay=0.5), 0, dropout=False)
    assert (teacher.net, teacher.decay, teacher.statistics, teacher.dropout) == (net, 0.5, "batch", False)
    assert make_teacher(net, TeacherOptions(), 0).dropout
