from __future__ import annotations

from pathlib import Path

import yaml

from semiseg.settings.load import load_config
from semiseg.settings.run import RunConfig
from semiseg.settings.template import template


def test_the_template_is_a_settings_file_that_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(template().replace("data: DATA", f"data: {tmp_path}"))
    assert load_config(file, {}) == RunConfig(data=tmp_path)


def test_every_setting_is_in_it_with_a_comment() -> None:
    values = yaml.safe_load(template())
    assert set(values) == set(RunConfig.model_fields) - {"based_on"}
    assert set(values["optimiser"]) == set(RunConfig.model_fields["optimiser"].annotation.model_fields)
    assert "share that neighbouring windows have in common" in template()
    assert "lr: null  # a number or null, above 0; null: 0.001 for adamw, 0.01 for sgd" in template()
