"""Files appear whole or not at all; the metrics file can be continued."""

import csv

import pytest
import torch

from memsuite.files import write_atomically, write_json
from memsuite.storage import AtomicCheckpointIO, MetricsCSV


def read(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_failed_write_leaves_what_was_there(tmp_path):
    target = tmp_path / "file"
    write_json(target, {"a": 1})

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, fail)
    assert target.read_text() == '{\n  "a": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_json_refuses_what_is_not_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path):
    torch.save({"call": print}, tmp_path / "bad.ckpt")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "bad.ckpt", weights_only=False)


def test_rows_are_appended_and_new_columns_widen_the_file(tmp_path):
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"a": 1}, step=10)
    logger.log_metrics({"a": 2}, step=20)
    logger.log_metrics({"b": 3}, step=30)
    logger.log_metrics({"a": 4}, step=40)
    assert [row["env_steps"] for row in read(tmp_path)] == ["10", "20", "30", "40"]
    assert [row["a"] for row in read(tmp_path)] == ["1", "2", "", "4"]
    assert read(tmp_path)[2]["b"] == "3"


def test_a_row_that_is_none_does_not_stand_in_the_way(tmp_path):
    logger = MetricsCSV(tmp_path)
    for step in (10, 20):
        logger.log_metrics({"a": step}, step=step)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("garbage,1\n15,1,2,3\n")
    again = MetricsCSV(tmp_path)
    again.rewind(20)
    assert [row["a"] for row in read(tmp_path)] == ["10", "20"]


def test_a_fresh_logger_begins_anew_and_a_rewound_one_goes_on(tmp_path):
    logger = MetricsCSV(tmp_path)
    for step in (10, 20, 30):
        logger.log_metrics({"a": step}, step=step)
    again = MetricsCSV(tmp_path)
    again.rewind(20)
    again.log_metrics({"a": 31}, step=30)
    assert [row["a"] for row in read(tmp_path)] == ["10", "20", "31"]
    MetricsCSV(tmp_path).log_metrics({"a": 1}, step=1)
    assert len(read(tmp_path)) == 1
