"""`mrcnn train` that kills itself, as a system without memory does: `killed_training.py EPOCH STEP WORDS...`."""

import os
import signal
import sys

from experiments.commands.train import main
from experiments.training import callbacks as epoch_end

EPOCH, STEP = int(sys.argv[1]), int(sys.argv[2])
as_it_is = epoch_end.EpochCallback.on_train_batch_end


def kill_at(self, batch, logs):
    as_it_is(self, batch, logs)
    if (self.epochs_done + 1, batch + 1) == (EPOCH, STEP):
        os.kill(os.getpid(), signal.SIGKILL)


epoch_end.EpochCallback.on_train_batch_end = kill_at
sys.exit(main(sys.argv[3:]))
