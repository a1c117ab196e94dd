"""Run `mrcnn train` and kill it by SIGKILL after a step: `killed_training.py EPOCH STEP ARGUMENTS...`."""

import os
import signal
import sys

from experiments.commands.train import main
from experiments.training.callbacks import FiniteLoss

EPOCH, STEP = int(sys.argv[1]), int(sys.argv[2])
report_step = FiniteLoss.on_train_batch_end


def kill_at(self, batch, logs):
    report_step(self, batch, logs)
    if (self.state.epochs_done + 1, batch + 1) == (EPOCH, STEP):
        os.kill(os.getpid(), signal.SIGKILL)


FiniteLoss.on_train_batch_end = kill_at
sys.exit(main(sys.argv[3:]))
