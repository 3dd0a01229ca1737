"""The feature store of a writer that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from visavis.data.features import FeatureIdentity
from visavis.data.store import FeatureStore, StoreWriter

KILLED = """
import sys
import numpy as np
from pathlib import Path
from visavis.data.features import FeatureIdentity
from visavis.data.store import StoreWriter
store = StoreWriter(Path(sys.argv[1]), FeatureIdentity(extractor="toy"), dim=4, max_regions=3,
                    shard_size=5)
for number in range(100000):
    store.add(str(number), np.full((3, 4), number % 1000, dtype=np.float32),
              np.zeros((3, 4), dtype=np.float32), (1, 1))
    if str(number) in store.done:
        print(number, flush=True)
"""


def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "store")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(4)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = StoreWriter(
        tmp_path / "store", FeatureIdentity(extractor="toy"), dim=4, max_regions=3, shard_size=5
    )
    done = {int(name) for name in store.done}
    assert done >= set(range(acknowledged[-1] + 1))
    store.close()
    features = FeatureStore(tmp_path / "store")
    features.verify()
    assert not list((tmp_path / "store").glob(".*"))
    values = features.read(np.arange(len(features))).regions[:, 0, 0].tolist()
    assert values == [int(name) % 1000 for name in features.ids]
