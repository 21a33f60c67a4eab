"""Work for the job queue that tests hold in their hand."""

import threading


class Gate:
    """A job's work that yields numbers until it is opened or cancelled."""

    def __init__(self, log=None, name=""):
        self.open, self.started, self.log, self.name = threading.Event(), threading.Event(), log, name

    def __call__(self, cancelled):
        self.started.set()
        if self.log is not None:
            self.log.append(self.name)
        for i in range(10_000):
            yield i
            if cancelled() or self.open.wait(0.005):
                return


def finished(job, seconds=5.0):
    assert job.wait(seconds), f"{job.title} is still {job.state}"
    return job.state


def opened(log=None, name=""):
    gate = Gate(log, name)
    gate.open.set()
    return gate
