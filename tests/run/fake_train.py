"""Stands for `ptblm train` where only the logic of a sweep is tested; starts quickly.

The valid perplexity of an epoch is 100 times the learning rate, divided by the epoch. A rate above
2 diverges, and a rate of 1.5 is an error.
"""

import fcntl
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

options = dict(word[2:].split("=", 1) for word in sys.argv[2:])
run = Path(options["run-dir"])
rate = float(re.findall(r"^  learning_rate: (\S+)", Path(options["config"]).read_text(), re.M)[0])
epochs = int(re.findall(r"^  epochs: (\S+)", Path(options["config"]).read_text(), re.M)[0])
stopped: list[int] = []
signal.signal(signal.SIGINT, lambda number, _: stopped.append(number))
run.mkdir(exist_ok=True)
lock = (run / "lock").open("a")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
with (run.parent / "starts.txt").open("a") as starts:
    starts.write(f"{run.name} {os.getpid()}\n")
(run / "config.yaml").touch()
if rate == 1.5:
    print("note: something\nerror: no such corpus\n  at: nowhere\n  hint: look for it")
    sys.exit(3)
if rate > 2:
    (run / "diverged.json").touch()
    sys.exit(5)
metrics = run / "metrics.jsonl"
done = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
for epoch in range(done + 1, epochs + 1):
    time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
    record = {"kind": "epoch", "epoch": epoch, "step": epoch, "learning_rate": rate, "seconds": 1}
    record |= {"train_perplexity": 1, "valid_perplexity": 100 * rate / epoch}
    record |= {"tokens_per_second": 1, "best": True}
    with metrics.open("a") as file:
        file.write(json.dumps(record) + "\n")
    if stopped:
        sys.exit(130)
result = {
    "best_valid_perplexity": 100 * rate / epochs + int(options.get("seed", 0)),
    "best_test_perplexity": 7.0 if options["set"] == "run.test=true" else None,
}
(run / "result.json").write_text(json.dumps(result))
